//! Twenty thousand made-up words that occur as often as those of a language do: the second half as often as the
//! first, the tenth a tenth as often (Zipf).

/// How many words there are.
pub(crate) const WORDS: usize = 20_000;
/// Draws among which the words share.
const DRAWS: usize = 1 << 20;

const CONSONANTS: [&str; 16] = [
    "b", "c", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr",
];
const VOWELS: [&str; 6] = ["a", "e", "i", "o", "u", "ea"];

pub(crate) struct Vocabulary {
    words: Vec<String>,
    /// The rank of the word for each draw.
    draws: Vec<u16>,
}

impl Vocabulary {
    pub(crate) fn new() -> Vocabulary {
        let sum: f64 = (1..=WORDS).map(|rank| 1.0 / rank as f64).sum();
        let mut draws = Vec::with_capacity(DRAWS);
        let mut share = 0.0;
        for rank in 0..WORDS {
            share += 1.0 / (rank + 1) as f64 / sum;
            let end = (share * DRAWS as f64).round() as usize;
            draws.resize(end.min(DRAWS), u16::try_from(rank).unwrap());
        }
        draws.resize(DRAWS, 0);
        Vocabulary {
            words: (0..WORDS).map(word).collect(),
            draws,
        }
    }

    /// The word that a random number draws.
    pub(crate) fn drawn(&self, draw: u64) -> &str {
        let place = draw % self.draws.len() as u64;
        self.ranked(usize::from(self.draws[place as usize]))
    }

    /// The word of this rank, the most frequent being 0.
    pub(crate) fn ranked(&self, rank: usize) -> &str {
        &self.words[rank]
    }
}

/// Syllables that spell the number, so that frequent words are short and no two are the same.
fn word(rank: usize) -> String {
    let mut rest = rank;
    let mut word = String::new();
    loop {
        word.push_str(CONSONANTS[rest % CONSONANTS.len()]);
        rest /= CONSONANTS.len();
        word.push_str(VOWELS[rest % VOWELS.len()]);
        rest /= VOWELS.len();
        if rest == 0 {
            return word;
        }
        rest -= 1;
    }
}
