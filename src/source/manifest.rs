//! What is written down about a stored file, and what that says about a load to come. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// Bytes in a stored chunk. Several are under way at once, so this is also what a download keeps in memory, times eight or so; Blobs of this
/// size are written and read near the disk's speed, much smaller ones are not.
pub const CHUNK_BYTES: u64 = 8 << 20;

/// Version of [`Manifest`] and of what the chunks hold. Version 1 had no digests; it is read as one that has not computed them yet.
pub const SCHEMA: u32 = 2;

/// More chunks than any file has: 8 TB of the usual size. What says that it has more lies, and would cost memory for each.
pub const MOST_CHUNKS: u64 = 1 << 20;

/// Larger chunks than anybody writes.
const MOST_CHUNK_BYTES: u64 = 256 << 20;

/// The key under which a file is stored: its address without the fragment, which servers never see.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelId(String);

impl ModelId {
    /// `url` must be absolute, or two pages would mean different files by one key.
    pub fn from_url(url: &str) -> Self {
        Self(url.split('#').next().unwrap_or_default().to_owned())
    }

    /// As it is written in the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is written down about a stored file.
///
/// Written with every chunk, in one transaction; `complete` comes last, when all chunks are on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`] at the time of writing.
    pub schema: u32,
    /// Key of this manifest, first half of its chunks' keys.
    pub id: ModelId,
    /// The address that was asked first.
    pub url: String,
    /// The address whose `etag` this is: `url`, or one of its mirrors.
    #[serde(default)]
    pub mirror: Option<String>,
    /// Of a part of a split model: the id of the first part.
    #[serde(default)]
    pub group: Option<ModelId>,
    /// What to call it, for people.
    #[serde(default)]
    pub name: Option<String>,
    /// The server's ETag, for resuming and for noticing another file.
    pub etag: Option<String>,
    /// Bytes of the whole file; `None` while a server that does not say is still sending.
    pub length: Option<u64>,
    /// Bytes of each chunk but the last.
    pub chunk_bytes: u64,
    /// SHA-256 of each chunk that was stored, by index; shorter than the file until the last ones came.
    pub hashes: Vec<Option<Digest>>,
    /// Of the whole file, once all of it has passed.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// That digest was also published, by the host or whoever asked, and was met.
    #[serde(default)]
    pub published: bool,
    /// The last thing written: all chunks are there.
    pub complete: bool,
    /// When its first chunk was stored, ms since 1970.
    #[serde(default)]
    pub created_ms: f64,
    /// When it was loaded last, ms since 1970.
    #[serde(default)]
    pub used_ms: f64,
}

impl Manifest {
    /// The manifest of a file that is about to be stored.
    pub fn new(url: &str, chunk_bytes: u64, now_ms: f64) -> Self {
        Self {
            schema: SCHEMA,
            id: ModelId::from_url(url),
            url: url.to_owned(),
            mirror: None,
            group: None,
            name: None,
            etag: None,
            length: None,
            chunk_bytes,
            hashes: Vec::new(),
            sha256: None,
            published: false,
            complete: false,
            created_ms: now_ms,
            used_ms: now_ms,
        }
    }

    /// A manifest as it was found, brought to [`SCHEMA`]; `None` if a later version wrote it, or it makes no sense.
    pub fn upgraded(mut self) -> Option<Self> {
        let sane = (1..=MOST_CHUNK_BYTES).contains(&self.chunk_bytes) && self.n_chunks().is_none_or(|n| n <= MOST_CHUNKS);
        if !(1..=SCHEMA).contains(&self.schema) || !sane {
            return None;
        }
        self.schema = SCHEMA;
        self.mirror = self.mirror.or_else(|| Some(self.url.clone()));
        Some(self)
    }

    /// Chunks of the file, once its length is known.
    pub fn n_chunks(&self) -> Option<u64> {
        self.length.map(|length| length.div_ceil(self.chunk_bytes))
    }

    /// Bytes that chunk `index` must have; `None` if the file's length is not known, or the chunk lies beyond it.
    pub fn bytes_of(&self, index: u64) -> Option<u64> {
        match chunk_len(self.length?, self.chunk_bytes, index) {
            0 => None,
            bytes => Some(bytes),
        }
    }

    /// Of the chunks that are really there (their sizes in bytes, by index), those that can be used. Browsers may evict or lose single
    /// records, so what a manifest says is a promise that is checked.
    pub fn usable(&self, mut sizes: BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
        sizes.retain(|&index, &mut bytes| match self.length {
            Some(_) => self.bytes_of(index.into()) == Some(bytes),
            // The last chunk of a file without a length may be any, so only whole ones count.
            None => bytes == self.chunk_bytes && u64::from(index) < MOST_CHUNKS,
        });
        sizes
    }

    /// Whether the file can be loaded from the store alone; `sizes` as in [`Manifest::usable`].
    pub fn is_whole(&self, sizes: &BTreeMap<u32, u64>) -> bool {
        self.complete
            && self.n_chunks() == Some(self.usable(sizes.clone()).len() as u64)
            && sizes.len() as u64 == self.n_chunks().unwrap_or(0)
    }

    /// The digest that chunk `index` was stored with.
    pub fn hash(&self, index: usize) -> Option<Digest> {
        self.hashes.get(index).copied().flatten()
    }

    /// Notes a chunk's digest.
    pub fn set_hash(&mut self, index: usize, hash: Digest) {
        if self.hashes.len() <= index {
            self.hashes.resize(index + 1, None);
        }
        self.hashes[index] = Some(hash);
    }
}

/// Of the address of a part of a split model, `.../NAME-00002-of-00003.gguf` as llama.cpp's gguf-split calls it: the first part's key, and how many
/// parts there are.
pub fn part_of(url: &str) -> Option<(ModelId, usize)> {
    let path = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    let (stem, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, no) = stem.rsplit_once('-')?;
    let number = |digits: &str| match digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<usize>().ok(),
        false => None,
    };
    let (no, count) = (number(no)?, number(count)?);
    let first = format!("{stem}-00001-of-{count:05}.gguf{}", &url[path.len()..]);
    (1..=count).contains(&no).then(|| (ModelId::from_url(&first), count))
}

/// Bytes of chunk `index` of a file of `length` bytes; 0 beyond its end.
pub fn chunk_len(length: u64, chunk_bytes: u64, index: u64) -> u64 {
    length.saturating_sub(index.saturating_mul(chunk_bytes)).min(chunk_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://a.example/m.gguf";

    fn whole(length: u64, chunk_bytes: u64) -> Manifest {
        let mut m = Manifest::new(URL, chunk_bytes, 0.0);
        m.length = Some(length);
        m.complete = true;
        m
    }

    fn sizes(chunks: &[u64]) -> BTreeMap<u32, u64> {
        (0..).zip(chunks.iter().copied()).collect()
    }

    #[test]
    fn a_fragment_is_no_part_of_the_key() {
        let id = ModelId::from_url(&format!("{URL}?x=1#frag"));
        assert_eq!(id.as_str(), format!("{URL}?x=1"));
        assert_eq!(ModelId::from_url(URL), ModelId::from_url(&format!("{URL}#")));
    }

    #[test]
    fn only_a_complete_manifest_with_all_its_chunks_is_whole() {
        let m = whole(25, 10);
        assert!(m.is_whole(&sizes(&[10, 10, 5])));
        for chunks in [&[][..], &[10, 10], &[10, 10, 4], &[10, 9, 5], &[10, 10, 5, 0], &[10, 10, 10]] {
            assert!(!m.is_whole(&sizes(chunks)), "{chunks:?}");
        }
        assert!(!m.is_whole(&BTreeMap::from([(0, 10), (2, 5), (3, 10)])), "a gap");
        assert!(whole(20, 10).is_whole(&sizes(&[10, 10])), "a last chunk may be full");
        let torn = Manifest {
            complete: false,
            ..m.clone()
        };
        assert!(!torn.is_whole(&sizes(&[10, 10, 5])), "torn");
        let endless = Manifest { length: None, ..m };
        assert!(!endless.is_whole(&sizes(&[10, 10, 5])), "length never learnt");
    }

    #[test]
    fn what_is_there_and_fits_can_be_used() {
        let m = Manifest {
            complete: false,
            ..whole(25, 10)
        };
        let found = BTreeMap::from([(0, 10), (1, 9), (2, 5), (3, 10)]);
        assert_eq!(m.usable(found.clone()), BTreeMap::from([(0, 10), (2, 5)]));
        assert_eq!(
            Manifest { length: None, ..m }.usable(found),
            BTreeMap::from([(0, 10), (3, 10)])
        );
    }

    #[test]
    fn manifests_survive_being_written() {
        let mut m = whole(25, 10);
        m.etag = Some("\"abc\"".into());
        m.set_hash(2, Digest::of(b"abc"));
        assert_eq!((m.hash(0), m.hash(2), m.hash(9)), (None, Some(Digest::of(b"abc")), None));
        let text = serde_json::to_string(&m).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), m);
    }

    #[test]
    fn the_first_versions_manifests_are_still_understood() {
        let old = r#"{"schema":1,"id":"https://a.example/m.gguf","url":"https://a.example/m.gguf","etag":"\"x\"","length":25,"chunk_bytes":10,"hashes":[],"complete":true}"#;
        let m = serde_json::from_str::<Manifest>(old).unwrap().upgraded().unwrap();
        assert_eq!(
            (m.schema, m.mirror.as_deref(), m.hash(0), m.sha256),
            (SCHEMA, Some(URL), None, None)
        );
        assert!(m.is_whole(&sizes(&[10, 10, 5])));
        assert_eq!(
            Manifest {
                schema: SCHEMA + 1,
                ..m.clone()
            }
            .upgraded(),
            None,
            "a later version's"
        );
        for (length, chunk_bytes) in [(9, 0), (1 << 50, 1 << 20), (9, 1 << 53)] {
            let mad = Manifest {
                length: Some(length),
                chunk_bytes,
                ..m.clone()
            };
            assert_eq!(mad.upgraded(), None, "{length} bytes in chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn parts_know_their_first() {
        let first = |query: &str| ModelId::from_url(&format!("https://a.example/m-00001-of-00003.gguf{query}"));
        for (url, query) in [("m-00001-of-00003.gguf", ""), ("m-00003-of-00003.gguf?x=1#y", "?x=1")] {
            assert_eq!(part_of(&format!("https://a.example/{url}")), Some((first(query), 3)), "{url}");
        }
        for url in [
            "m.gguf",
            "m-1-of-3.gguf",
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-00001-of-00003.bin",
            "-of-.gguf",
            "é-of-00003.gguf",
            "?-00001-of-00003.gguf",
        ] {
            assert_eq!(part_of(url), None, "{url}");
        }
    }

    #[test]
    fn chunks_add_up_to_the_file() {
        for (length, chunk) in [(0, 10), (1, 10), (9, 10), (10, 10), (11, 10), (100, 7), (u64::MAX, u64::MAX)] {
            let n = u64::div_ceil(length, chunk);
            assert_eq!((0..n).map(|i| chunk_len(length, chunk, i)).sum::<u64>(), length);
            assert_eq!(chunk_len(length, chunk, n), 0);
        }
    }
}
