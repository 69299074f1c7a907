//! Stop texts: the reply ends before the first of them, and no part of it is shown.
//!
//! Works on characters, so where the tokens break makes no difference: the text that completes first wins, and of those that
//! complete together the one that began first.

/// Watches streamed text for stop texts, and holds back what may turn out to be the start of one.
#[derive(Debug, Clone, Default)]
pub struct StopTexts {
    stops: Vec<String>,
    /// Seen but not passed on: a proper prefix of a stop text.
    held: String,
}

impl StopTexts {
    /// Stop texts, none of them empty.
    pub fn new(stops: &[String]) -> Self {
        debug_assert!(stops.iter().all(|s| !s.is_empty()), "checked by Options");
        Self {
            stops: stops.to_vec(),
            held: String::new(),
        }
    }

    /// Takes the next piece of text and appends to `out` what is safe to show. `true` if a stop text is complete: the reply ends.
    pub fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(text);
            return false;
        }
        for c in text.chars() {
            self.held.push(c);
            let complete = self
                .stops
                .iter()
                .filter(|s| self.held.ends_with(s.as_str()))
                .max_by_key(|s| s.len());
            if let Some(stop) = complete {
                out.push_str(&self.held[..self.held.len() - stop.len()]);
                self.held.clear();
                return true;
            }
            // Let go of the front until the rest could begin a stop text.
            let keep = self
                .held
                .char_indices()
                .map(|(i, _)| i)
                .find(|&i| self.begins_a_stop(i))
                .unwrap_or(self.held.len());
            out.extend(self.held.drain(..keep));
        }
        false
    }

    /// Appends what is still held back: the reply ended otherwise, so it was only text.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    fn begins_a_stop(&self, from: usize) -> bool {
        self.stops.iter().any(|s| s.starts_with(&self.held[from..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the watcher over the text in pieces and returns what it showed and whether it stopped.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let (mut watch, mut out) = (StopTexts::new(&stops), String::new());
        for piece in pieces {
            if watch.push(piece, &mut out) {
                return (out, true);
            }
            for stop in &stops {
                assert!(!out.contains(stop.as_str()), "{stops:?} {pieces:?} showed {out:?}");
            }
        }
        watch.finish(&mut out);
        (out, false)
    }

    #[test]
    fn cases() {
        let cases: [(&[&str], &[&str], &str, bool); 13] = [
            (&[], &["all ", "of it"], "all of it", false),
            (&["."], &["One. Two."], "One", true),
            (&["END"], &["the E", "N", "D of it"], "the ", true),
            (&["END"], &["the E", "N", "d of it"], "the ENd of it", false),
            (&["END"], &["the EN"], "the EN", false),
            (&["aab"], &["aaab"], "a", true),
            (&["abab!"], &["ababab!"], "ab", true),
            (&["\n\n", "User:"], &["Hi.\n", "User", ": x"], "Hi.\n", true),
            (&["\n\n", "User:"], &["Hi.\n", "\nUser"], "Hi.", true),
            // The one that is complete first wins, the longer one when both are.
            (&["abcde", "bc"], &["xabcde"], "xa", true),
            (&["abc", "bc"], &["xabc"], "x", true),
            (&["é🙂"], &["caf", "é", "🙂!"], "caf", true),
            (&["é🙂"], &["caf", "é", "🙁!"], "café🙁!", false),
        ];
        for (stops, pieces, text, stopped) in cases {
            assert_eq!(run(stops, pieces), (text.to_string(), stopped), "{stops:?} {pieces:?}");
        }
    }

    /// Every way to break a text into pieces gives the same reply as a plain search in the whole text.
    #[test]
    fn borders_make_no_difference() {
        let text = "abcabéabcd";
        let cuts: Vec<usize> = text.char_indices().map(|(i, _)| i).skip(1).collect();
        for stops in [&["abcd"][..], &["ca", "éa"], &["bé"], &["abéb"], &["d"], &["z", "cab", "ab"]] {
            let first = stops.iter().filter_map(|s| text.find(s).map(|at| (at + s.len(), at))).min();
            let expected = first.map_or((text.to_string(), false), |(_, at)| (text[..at].to_string(), true));
            for mask in 0..1u32 << cuts.len() {
                let mut pieces = Vec::new();
                let mut from = 0;
                for (bit, &cut) in cuts.iter().enumerate() {
                    if mask >> bit & 1 == 1 {
                        pieces.push(&text[from..cut]);
                        from = cut;
                    }
                }
                pieces.push(&text[from..]);
                assert_eq!(run(stops, &pieces), expected, "{stops:?} {pieces:?}");
            }
        }
    }
}
