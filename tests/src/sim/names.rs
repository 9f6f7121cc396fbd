//! The files that clients work on. Each is used for a while and then given up for another, so that the histories that are
//! checked stay short.

use std::sync::Arc;

/// Calls on a file until it is given up for the next.
const CALLS: u32 = 40;

/// The files of a run.
#[derive(Debug)]
pub(super) struct Names {
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    path: Arc<str>,
    generation: u32,
    calls: u32,
}

impl Names {
    /// So many files at a time.
    pub(super) fn new(places: usize) -> Self {
        let places = (0..places).map(|place| Place { path: name(place, 0), generation: 0, calls: 0 });
        Self { places: places.collect() }
    }

    pub(super) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    /// The file at a place now.
    pub(super) fn path(&self, place: u64) -> Arc<str> {
        let place = usize::try_from(place).ok().and_then(|place| self.places.get(place));
        place.map_or_else(|| name(0, 0), |place| place.path.clone())
    }

    /// Whether the file may be deleted. Those have no locks of plain sessions, which are not told which file they locked.
    pub(super) fn is_deletable(path: &str) -> bool {
        path.as_bytes().get(1).is_some_and(|digit| digit % 2 == 1)
    }

    pub(super) fn is_current(&self, path: &str) -> bool {
        self.places.iter().any(|place| *place.path == *path)
    }

    /// A call on this file was made.
    pub(super) fn count(&mut self, path: &str) {
        let found = self.places.iter_mut().enumerate().find(|(_, place)| *place.path == *path);
        if let Some((number, place)) = found {
            place.calls += 1;
            if place.calls >= CALLS {
                let generation = place.generation + 1;
                *place = Place { path: name(number, generation), generation, calls: 0 };
            }
        }
    }

    /// All files that were used.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        let of = |(number, place): (usize, &Place)| {
            (0..=place.generation).map(|generation| name(number, generation)).collect::<Vec<_>>()
        };
        self.places.iter().enumerate().flat_map(of).collect()
    }
}

fn name(place: usize, generation: u32) -> Arc<str> {
    format!("/{place}-{generation}").into()
}
