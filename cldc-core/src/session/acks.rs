//! The numbers that wait to be acknowledged: runs of consecutive ones, as they come in bursts.

/// How many runs are kept. A packet that would need one more is not taken, and comes again.
const RUNS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// First number and length of each run.
    runs: heapless::Deque<(u64, u64), RUNS>,
}

impl Acks {
    /// Whether the acknowledgement of one more packet can be kept, whatever its number.
    pub(super) fn has_room(&self) -> bool {
        !self.runs.is_full()
    }

    pub(super) fn push(&mut self, number: u64) {
        if let Some((first, len)) = self.runs.back_mut() {
            let distance = number.wrapping_sub(*first);
            if distance <= *len {
                *len = (*len).max(distance.saturating_add(1));
                return;
            }
        }
        // Without room the packet stays unacknowledged: the server sends it again.
        let _ = self.runs.push_back((number, 1));
    }

    pub(super) fn pop(&mut self) -> Option<u64> {
        let (first, len) = self.runs.front_mut()?;
        let number = *first;
        *first = first.wrapping_add(1);
        *len = len.saturating_sub(1);
        if *len == 0 {
            self.runs.pop_front();
        }
        Some(number)
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_out_once_in_order_and_runs_are_bounded() {
        let mut acks = Acks::default();
        for number in [u64::MAX - 1, u64::MAX, 0, 0, 1, 9, 20, 21, 40] {
            assert!(acks.has_room());
            acks.push(number);
        }
        assert!(!acks.has_room());
        let popped: [u64; 8] = core::array::from_fn(|_| acks.pop().unwrap());
        assert_eq!(popped, [u64::MAX - 1, u64::MAX, 0, 1, 9, 20, 21, 40]);
        assert_eq!(acks.pop(), None);
    }
}
