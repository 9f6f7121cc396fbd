//! Values of options: each is read from a command line's text or from a TOML value, and is right once it is read.

use std::fmt::{self, Display, Formatter};
use std::num::NonZeroU16;
use std::str::FromStr;

use clap::ValueEnum;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line as a person reads it.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// A UDP port to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PortSetting")]
pub(crate) enum Port {
    /// Any free one.
    Auto,
    /// This one.
    Number(NonZeroU16),
}

impl Default for Port {
    /// Hail's.
    fn default() -> Self {
        Self::Number(NonZeroU16::MIN.saturating_add(8080))
    }
}

impl Port {
    fn invalid(text: &dyn Display) -> String {
        format!("invalid port: '{text}'; give 1 to 65535, or auto for any free port")
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Number).map_err(|_| Self::invalid(&text))
    }
}

impl Display for Port {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Number(number) => number.fmt(out),
        }
    }
}

/// A port as a TOML value: a number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum PortSetting {
    Number(i64),
    Text(String),
    Other(IgnoredAny),
}

impl TryFrom<PortSetting> for Port {
    type Error = String;

    fn try_from(setting: PortSetting) -> Result<Self, String> {
        match setting {
            PortSetting::Number(number) => number.to_string().parse(),
            PortSetting::Text(text) => text.parse(),
            PortSetting::Other(_) => Err("a port is a number from 1 to 65535, or \"auto\"".to_owned()),
        }
    }
}

/// A number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub(crate) struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    /// The number.
    pub(super) fn get(self) -> u64 {
        self.0
    }

    fn check(number: Option<u64>, text: &dyn Display) -> Result<Self, String> {
        let inside = number.filter(|number| (MIN..=MAX).contains(number));
        inside.map(Self).ok_or_else(|| format!("'{text}' is not a number from {MIN} to {MAX}"))
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Within<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::check(text.parse().ok(), &text)
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<i64> for Within<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        Self::check(u64::try_from(number).ok(), &number)
    }
}
