//! How far the gRPC message of a request body has come: each has a prefix of five bytes, the last four with its length.

/// Length of the prefix.
pub(super) const PREFIX: usize = 5;

/// What a chunk has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// The length of the longest message whose prefix became complete.
    pub(super) longest: Option<usize>,
    /// Whether a message became complete.
    pub(super) completed: bool,
}

/// The position in a sequence of messages.
#[derive(Debug, Default)]
pub(super) struct MessageProgress {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that have come.
    prefix_len: usize,
    /// Bytes of the message that have not come yet.
    missing: usize,
}

impl MessageProgress {
    /// Goes on by `chunk`.
    pub(super) fn advance(&mut self, mut chunk: &[u8]) -> Step {
        let mut step = Step::default();
        while !chunk.is_empty() {
            if self.prefix_len < PREFIX {
                let (now, later) = chunk.split_at(chunk.len().min(PREFIX - self.prefix_len));
                self.prefix[self.prefix_len..][..now.len()].copy_from_slice(now);
                self.prefix_len += now.len();
                chunk = later;
                if self.prefix_len < PREFIX {
                    return step;
                }
                let [_, length @ ..] = self.prefix;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                step.longest = step.longest.max(Some(self.missing));
            }
            let now = chunk.len().min(self.missing);
            self.missing -= now;
            chunk = &chunk[now..];
            if self.missing == 0 {
                self.prefix_len = 0;
                step.completed = true;
            }
        }
        step
    }

    /// Whether a message has begun and is not complete.
    pub(super) fn is_within_message(&self) -> bool {
        self.prefix_len > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let wire = [
            &[0, 0, 0, 0, 3][..],
            b"abc",
            &[0, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0],
            &[7; 256],
        ]
        .concat();
        for size in 1..=wire.len() {
            let mut progress = MessageProgress::default();
            let lengths: Vec<usize> = wire
                .chunks(size)
                .filter_map(|chunk| progress.advance(chunk).longest)
                .collect();
            assert_eq!(lengths.iter().max(), Some(&256), "{size}");
            assert!(!progress.is_within_message(), "{size}");
        }
        let mut progress = MessageProgress::default();
        for (chunk, begins) in [(&[0, 0][..], None), (&[0, 0, 2, 1], Some(2)), (&[1, 0, 0, 0], None)] {
            assert_eq!(progress.advance(chunk).longest, begins);
            assert!(progress.is_within_message());
        }
        assert!(progress.is_within_message(), "the next prefix has begun");
    }
}
