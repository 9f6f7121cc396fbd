//! What a client sends (protocol.md 2.1).

use cldc_core::wire::{EventMask, LockFlags, OpenMode, Request};

use super::{Golden, Message};

pub(super) const GOLDEN: &[Golden] = &[
    Golden {
        name: "NEW_SESS",
        xid: 0xc0ffee0000000001,
        number: 0x8000000000000001,
        shifted: false,
        message: Message::Request(Request::NewSess { extension: b"" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000100000001
              0100000000000080c6b0017a1e307f03260202c84d816bcc6dfff847",
    },
    Golden {
        name: "NEW_SESS with a body",
        xid: 0xc0ffee0000000002,
        number: 0x8000000000000002,
        shifted: false,
        message: Message::Request(Request::NewSess { extension: b"\x00\x00\x00\x01more" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000200000001
              000000016d6f7265
              0200000000000080b0b11c741ba385b9504752304c8fe4f4a9b91dbb",
    },
    Golden {
        name: "NOP",
        xid: 0xc0ffee0000000003,
        number: 0x8000000000000003,
        shifted: false,
        message: Message::Request(Request::Nop),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000300000000
              03000000000000809e8d7a0898980d55643cabf4a2f1638b50ee0128",
    },
    Golden {
        name: "OPEN",
        xid: 0xc0ffee0000000004,
        number: 0x8000000000000004,
        shifted: false,
        message: Message::Request(Request::Open {
            mode: OpenMode(0x13),
            events: EventMask(3),
            path: b"/ls/cell/leader",
        }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000400000002
              00000013000000030000000f2f6c732f63656c6c2f6c656164657200
              0400000000000080f379b88063d60516912be7b8afdfe8d32abcda5b",
    },
    Golden {
        name: "OPEN with bits that have no name",
        xid: 0xc0ffee0000000005,
        number: 0x8000000000000005,
        shifted: false,
        message: Message::Request(Request::Open {
            mode: OpenMode(0x8000_0100),
            events: EventMask(0xffff_ffff),
            path: b"/",
        }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000500000002
              80000100ffffffff000000012f000000
              0500000000000080f6e1c2a2c31032d10f7c9fc57779a1a70069e3bc",
    },
    Golden {
        name: "GET_META",
        xid: 0xc0ffee0000000006,
        number: 0x8000000000000006,
        shifted: false,
        message: Message::Request(Request::GetMeta { fh: 2 }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000600000003
              0000000000000002
              0600000000000080f659ec0da55311f9ebb45b5a23bcbf73632e715a",
    },
    Golden {
        name: "GET",
        xid: 0xc0ffee0000000007,
        number: 0x8000000000000007,
        shifted: false,
        message: Message::Request(Request::Get { fh: 0xffff_ffff_ffff_fffe }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000700000004
              fffffffffffffffe
              070000000000008079bd19f376d371bc54a82e48fdd5ac83b5ae34db",
    },
    Golden {
        name: "PUT",
        xid: 0xc0ffee0000000008,
        number: 0x8000000000000008,
        shifted: false,
        message: Message::Request(Request::Put { fh: 3, data: b"hello" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000800000006
              00000000000000030000000568656c6c6f000000
              0800000000000080ed463c03216825395430efe40f2196ec9906314b",
    },
    Golden {
        name: "PUT of nothing",
        xid: 0xc0ffee0000000009,
        number: 0x8000000000000009,
        shifted: false,
        message: Message::Request(Request::Put { fh: 3, data: b"" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000900000006
              000000000000000300000000
              09000000000000806b17cecc8cfdf171aee665f2c74c5538c7a5c8a5",
    },
    Golden {
        name: "CLOSE",
        xid: 0xc0ffee000000000a,
        number: 0x800000000000000a,
        shifted: false,
        message: Message::Request(Request::Close { fh: 4 }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000a00000007
              0000000000000004
              0a0000000000008043b79dc059bc2cdb55422ab6956b2f024f2ff1a6",
    },
    Golden {
        name: "DEL",
        xid: 0xc0ffee000000000b,
        number: 0x800000000000000b,
        shifted: false,
        message: Message::Request(Request::Del { path: b"/ls/old" }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000b00000008
              000000072f6c732f6f6c6400
              0b00000000000080f4073c91fd482cc6dbac4cd302225e530b20c49d",
    },
    Golden {
        name: "LOCK, exclusive",
        xid: 0xc0ffee000000000c,
        number: 0x800000000000000c,
        shifted: false,
        message: Message::Request(Request::Lock { fh: 5, flags: LockFlags::NONE, wait: true }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000c00000009
              000000000000000500000000
              0c000000000000802157886ce74cfe4868092095e9e600d4385f5969",
    },
    Golden {
        name: "LOCK, shared",
        xid: 0xc0ffee000000000d,
        number: 0x800000000000000d,
        shifted: false,
        message: Message::Request(Request::Lock { fh: 5, flags: LockFlags::SHARED, wait: true }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000d00000009
              000000000000000500000001
              0d00000000000080d4147b060cee888306f10b53f0722c033dce08f4",
    },
    Golden {
        name: "TRYLOCK",
        xid: 0xc0ffee000000000e,
        number: 0x800000000000000e,
        shifted: false,
        message: Message::Request(Request::Lock { fh: 6, flags: LockFlags::NONE, wait: false }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000e0000000b
              000000000000000600000000
              0e0000000000008058165f54ba41e63485fe71b44fe2d05dc4c07991",
    },
    Golden {
        name: "UNLOCK",
        xid: 0xc0ffee000000000f,
        number: 0x800000000000000f,
        shifted: false,
        message: Message::Request(Request::Unlock { fh: 6 }),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee000000000f0000000a
              0000000000000006
              0f00000000000080c1d1d880292e3b07a282da090b53b6bdbefbf18e",
    },
    Golden {
        name: "END_SESS",
        xid: 0xc0ffee0000000010,
        number: 0x8000000000000010,
        shifted: false,
        message: Message::Request(Request::EndSess),
        hex: "746b703163444c430123456789abcdef00000005616c69636500000000000003c0ffee00000000100000000d
              1000000000000080e705e5fc2a44124ff6e68c4a6abc48a43cbef313",
    },
    Golden {
        name: "ACK",
        xid: 0x0,
        number: 0xfffffffffffffff0,
        shifted: false,
        message: Message::Ack,
        hex: "746b703163444c430123456789abcdef00000005616c6963650000000000000300000000000000000000000c
              f0ffffffffffffff8fceae3ab55b36acfe8d66afecc11a250183e3e5",
    },
];
