//! Inputs like the seeds, and ever less like them.

/// An endless sequence of inputs: the same in every run.
pub(crate) struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    words: &'a [&'a [u8]],
    /// xorshift64*: good enough to wander about.
    state: u64,
}

/// How many of the seeds are good, about.
const GOOD: usize = 4;

/// Longer than anything that a reader looks at.
const LONGEST: usize = 5000;

impl<'a> Mutator<'a> {
    /// From these seeds, with these words thrown in.
    pub(crate) fn new(seeds: &'a [Vec<u8>], words: &'a [&'a [u8]]) -> Self {
        Self {
            seeds,
            words,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// The next input.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        // Good inputs come first among the seeds, and lead further than the many that are refused at once.
        let among = [self.seeds.len(), self.seeds.len().min(GOOD)][self.below(2)];
        let mut input = self.seeds[self.below(among)].clone();
        for _ in 0..=self.below(5) {
            self.mutate(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let to = at + self.below((input.len() - at).min(64) + 1);
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => input.insert(at, self.byte()),
            3 => drop(input.drain(at..to)),
            4 => {
                let piece = input[at..to].to_vec();
                let again = self.below(input.len() + 1);
                input.splice(again..again, piece);
            }
            5 => {
                let piece = input[at..to].repeat(self.below(40) + 1);
                input.splice(at..to, piece);
            }
            6 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                input.splice(at..at, word.iter().copied());
            }
            7 => {
                // The beginning of one and the end of another.
                let other = &self.seeds[self.below(self.seeds.len())];
                let from = self.below(other.len() + 1);
                let end = self
                    .seeds
                    .iter()
                    .position(|seed| std::ptr::eq(seed, other))
                    .unwrap_or(0);
                input.truncate(at);
                input.extend_from_slice(&self.seeds[end][from..]);
            }
            _ => input.truncate(at),
        }
    }

    /// Any byte; more often one that means something.
    fn byte(&mut self) -> u8 {
        const MEANINGFUL: &[u8] = b".{}[]\":,\\-_=+/0aAeEn \0\x7f\xff";
        if self.below(2) == 0 {
            MEANINGFUL[self.below(MEANINGFUL.len())]
        } else {
            self.random().to_be_bytes()[3]
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random() >> 33).unwrap() % limit
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
