//! The store.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use outcrop::{
    Error, Result,
    source::{
        download::world::{Bytes, Shelf},
        manifest::Manifest,
    },
};

use super::{Mem, Time};

pub struct Disk {
    pub manifests: BTreeMap<String, Manifest>,
    pub chunks: BTreeMap<(String, u32), Vec<u8>>,
    /// Most bytes of chunks.
    pub quota: Option<u64>,
    pub n_puts: usize,
    pub ms_a_put: f64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            manifests: BTreeMap::new(),
            chunks: BTreeMap::new(),
            quota: None,
            n_puts: 0,
            ms_a_put: 4.0,
        }
    }
}

impl Disk {
    /// A file's chunks in a row.
    pub fn contents(&self, id: &str) -> Vec<u8> {
        self.chunks
            .iter()
            .filter(|((of, _), _)| of == id)
            .flat_map(|(_, bytes)| bytes.clone())
            .collect()
    }

    fn used(&self) -> u64 {
        self.chunks.values().map(|chunk| chunk.len() as u64).sum()
    }
}

#[derive(Clone)]
pub struct SimShelf {
    pub time: Rc<Time>,
    pub disk: Rc<RefCell<Disk>>,
}

impl Shelf for SimShelf {
    type Bytes = Mem;

    async fn list(&self, id: &str) -> Result<(Option<Manifest>, BTreeMap<u32, u64>)> {
        self.time.sleep(1.0).await;
        let disk = self.disk.borrow();
        let manifest = disk.manifests.get(id).cloned().and_then(Manifest::upgraded);
        let sizes = disk
            .chunks
            .iter()
            .filter(|((of, _), _)| of == id)
            .map(|((_, i), bytes)| (*i, bytes.len() as u64))
            .collect();
        Ok((manifest, sizes))
    }

    fn read(&self, id: &str, index: u32) -> impl Future<Output = Result<Mem>> + use<> {
        let (shelf, id) = (self.clone(), id.to_owned());
        async move {
            shelf.time.sleep(3.0).await;
            let chunk = shelf.disk.borrow().chunks.get(&(id, index)).cloned();
            chunk.map(Mem::new).ok_or_else(|| Error::Storage { what: "gone".into() })
        }
    }

    fn put(&self, index: u32, bytes: &Mem, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<> {
        // A copy is under way, as a Blob is.
        let (shelf, bytes, manifest) = (self.clone(), Mem::new(bytes.0.clone()), manifest.clone());
        let ms = shelf.disk.borrow().ms_a_put;
        async move {
            shelf.time.sleep(ms).await;
            let mut disk = shelf.disk.borrow_mut();
            if disk.quota.is_some_and(|quota| disk.used() + bytes.len() as u64 > quota) {
                return Err(Error::StorageFull { what: "full".into() });
            }
            disk.n_puts += 1;
            disk.chunks.insert((manifest.id.as_str().to_owned(), index), bytes.0.clone());
            disk.manifests.insert(manifest.id.as_str().to_owned(), manifest);
            Ok(())
        }
    }

    fn write(&self, manifest: &Manifest) -> impl Future<Output = Result<()>> + use<> {
        let (shelf, manifest) = (self.clone(), manifest.clone());
        async move {
            shelf.time.sleep(1.0).await;
            shelf
                .disk
                .borrow_mut()
                .manifests
                .insert(manifest.id.as_str().to_owned(), manifest);
            Ok(())
        }
    }

    fn clear(&self, id: &str) -> impl Future<Output = Result<()>> + use<> {
        // Begun at once: later puts come after it.
        let mut disk = self.disk.borrow_mut();
        disk.manifests.remove(id);
        disk.chunks.retain(|(of, _), _| of != id);
        std::future::ready(Ok(()))
    }
}
