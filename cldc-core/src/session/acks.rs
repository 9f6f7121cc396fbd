//! The numbers that wait to be acknowledged: runs of consecutive ones, as they come in bursts.

/// How many runs are kept. With one more the oldest is forgotten: the server sends its packets again.
const RUNS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Acks {
    /// First number and length of each run.
    runs: heapless::Deque<(u64, u64), RUNS>,
}

impl Acks {
    /// How many numbers wait.
    pub(super) fn len(&self) -> u64 {
        self.runs.iter().fold(0, |sum, (_, len)| sum.saturating_add(*len))
    }

    pub(super) fn push(&mut self, number: u64) {
        if self.runs.iter().any(|(first, len)| number.wrapping_sub(*first) < *len) {
            return;
        }
        if let Some((first, len)) = self.runs.back_mut() {
            if number.wrapping_sub(*first) == *len {
                *len = len.saturating_add(1);
                return;
            }
        }
        if self.runs.is_full() {
            self.runs.pop_front();
        }
        // There is room.
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
        for number in [u64::MAX - 1, u64::MAX, 0, 0, 1, 9, 20, 21, u64::MAX, 40] {
            acks.push(number);
        }
        assert_eq!(acks.len(), 8);
        let popped: [u64; 8] = core::array::from_fn(|_| acks.pop().unwrap());
        assert_eq!(popped, [u64::MAX - 1, u64::MAX, 0, 1, 9, 20, 21, 40]);
        assert_eq!(acks.pop(), None);
    }

    #[test]
    fn without_room_the_oldest_run_gives_way_to_the_newest() {
        let mut acks = Acks::default();
        for number in [10, 11, 20, 30, 40, 50] {
            acks.push(number);
        }
        let popped: [u64; 4] = core::array::from_fn(|_| acks.pop().unwrap());
        assert_eq!(popped, [20, 30, 40, 50]);
    }
}
