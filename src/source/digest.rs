//! SHA-256: of chunks, to know a stored one that went bad; of whole files, to know that they are what their publisher meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of bytes that are in memory as a whole.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest in an address of OCI's content-addressed kind, `.../blobs/sha256:<64 hexadecimal digits>`.
    pub fn in_url(url: &str) -> Option<Self> {
        let path = url.split(['?', '#']).next()?;
        let last = path.rsplit('/').next()?;
        last.strip_prefix("sha256:")
            .or_else(|| last.strip_prefix("sha256%3A"))
            .or_else(|| last.strip_prefix("sha256%3a"))?
            .parse()
            .ok()
    }

    /// The digest in Hugging Face's `X-Linked-Etag`: the LFS object id, in quotes. Files outside LFS have a shorter one, which is none of ours.
    pub fn in_linked_etag(etag: &str) -> Option<Self> {
        etag.trim().trim_matches('"').parse().ok()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 has 64 hexadecimal digits")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NoDigest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(NoDigest);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A whole file's digest, piece by piece in the file's order.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that came.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-4's first example

    #[test]
    fn a_digest_is_its_64_digits() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.to_uppercase().parse(), Ok(Digest::of(b"abc")));
        assert_eq!(serde_json::to_string(&Digest::of(b"abc")).unwrap(), format!("{ABC:?}"));
        for bad in [
            "",
            "ba78",
            &ABC[1..],
            &format!("{ABC}0"),
            &ABC.replace('b', "g"),
            &ABC.replacen("ba", "é", 1),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NoDigest), "{bad}");
        }
        assert!(serde_json::from_str::<Digest>("\"no\"").is_err());
    }

    #[test]
    fn pieces_make_no_difference() {
        let mut hasher = Hasher::default();
        for piece in [&b"a"[..], b"", b"bc"] {
            hasher.update(piece);
        }
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn addresses_and_headers_may_carry_one() {
        let abc = Some(Digest::of(b"abc"));
        for url in [
            format!("https://r.example/v2/ai/granite/blobs/sha256:{ABC}"),
            format!("https://r.example/v2/ai/granite/blobs/sha256%3A{ABC}?x=1#y"),
        ] {
            assert_eq!(Digest::in_url(&url), abc, "{url}");
        }
        for url in [
            "https://r.example/m.gguf",
            "https://r.example/sha256:12",
            &format!("https://r.example/?sha256:{ABC}"),
        ] {
            assert_eq!(Digest::in_url(url), None, "{url}");
        }
        assert_eq!(Digest::in_linked_etag(&format!("\"{ABC}\"")), abc);
        assert_eq!(Digest::in_linked_etag("\"d41d8cd98f00b204e9800998ecf8427e\""), None);
    }
}
