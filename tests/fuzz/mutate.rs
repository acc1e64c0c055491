//! A mutator: makes inputs from seeds by random changes.

/// An endless sequence of inputs: the same in every run.
pub(crate) struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    dictionary: &'a [Vec<u8>],
    /// The state of xorshift64*; its quality suffices here.
    state: u64,
}

/// About how many of the first seeds are valid.
const VALID_SEEDS: usize = 4;

/// Longer than the limit of every parser.
const MAX_INPUT: usize = 5000;

impl<'a> Mutator<'a> {
    /// A mutator of these seeds, which also inserts texts of the dictionary.
    pub(crate) fn new(seeds: &'a [Vec<u8>], dictionary: &'a [Vec<u8>]) -> Self {
        Self {
            seeds,
            dictionary,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// The next input.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        // The first seeds are valid and reach more code than the many that are refused early.
        let among = [self.seeds.len(), self.seeds.len().min(VALID_SEEDS)][self.below(2)];
        let mut input = self.seeds[self.below(among)].clone();
        for _ in 0..=self.below(5) {
            self.mutate(&mut input);
        }
        input.truncate(MAX_INPUT);
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
            6 if !self.dictionary.is_empty() => {
                let word = &self.dictionary[self.below(self.dictionary.len())];
                input.splice(at..at, word.iter().copied());
            }
            7 => {
                // The start of one input and the end of another.
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

    /// A random byte, in half of the cases one that is special in tokens or JSON.
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
