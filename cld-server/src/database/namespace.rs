//! The name space: files and directories by number and by path, and who is whose child.

use super::digest::{Digest, Item};
use super::limits::INODE_COST;
use super::path;
use cldc_core::wire::codes::{Code, InodeFlags};
use cldc_core::wire::dirent;
use cldc_core::wire::limits::MAX_PAYLOAD;
use cldc_core::wire::xdr::Writer;
use imbl::{OrdMap, OrdSet};
use std::sync::Arc;

/// The root's inode number (protocol.md 7).
pub(super) const ROOT_INODE: u64 = 10;
/// The first number for what clients create: Hail's server numbers them above 50.
pub(super) const FIRST_INODE: u64 = 51;

/// What is known of a file beside its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its number, never used for another file.
    pub inode: u64,
    /// Raised by every change of the contents; 1 after creation.
    pub version: u64,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// When it was changed last, in seconds since 1970.
    pub modified: u64,
    /// Whether it is a directory.
    pub flags: InodeFlags,
    /// Its full path.
    pub path: Arc<[u8]>,
}

/// A file or directory with its contents, those of a directory in the protocol's form (protocol.md 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Everything but the contents.
    pub meta: Meta,
    /// The contents.
    pub data: Arc<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) path: Arc<[u8]>,
    pub(super) version: u64,
    pub(super) created: u64,
    pub(super) modified: u64,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// With the hash of its contents.
    File(Arc<[u8]>, Digest),
    /// With the length of its contents, which are made when asked for.
    Directory { listing: u64 },
}

impl Body {
    /// A file with these contents.
    pub(super) fn file(data: Arc<[u8]>) -> Self {
        let digest = Digest::of_bytes(&data);
        Self::File(data, digest)
    }
}

impl Inode {
    pub(super) fn new(path: &[u8], directory: bool, at: u64) -> Self {
        let body = if directory { Body::Directory { listing: 0 } } else { Body::file(Arc::default()) };
        Self { path: path.into(), version: 1, created: at, modified: at, body }
    }

    /// The length of a file's contents; those of a directory are not stored.
    pub(super) fn contents_len(&self) -> u64 {
        match &self.body {
            Body::File(data, _) => data.len() as u64,
            Body::Directory { .. } => 0,
        }
    }

    /// What it counts for in `Limits::total_data`.
    fn cost(&self) -> u64 {
        cost(&self.path, self.contents_len())
    }

    /// Notes a change of the contents.
    const fn touch(&mut self, at: u64) {
        self.version = self.version.saturating_add(1);
        self.modified = at;
    }

    /// Its part of the digest.
    fn item(&self, number: u64) -> Digest {
        Digest::of(Item::Inode, |out| {
            [number, self.version, self.created, self.modified].into_iter().for_each(|field| out.u64(field));
            out.bytes(&self.path);
            match &self.body {
                Body::File(_, contents) => contents.encode(out),
                Body::Directory { listing } => out.u64(*listing),
            }
        })
    }

    fn meta(&self, inode: u64) -> Meta {
        let flags = match self.body {
            Body::File(..) => InodeFlags::NONE,
            Body::Directory { .. } => InodeFlags::DIR,
        };
        let Self { ref path, version, created, modified, .. } = *self;
        Meta { inode, version, created, modified, flags, path: path.clone() }
    }
}

/// What a file of this path and length counts for in `Limits::total_data`.
pub(super) fn cost(path: &[u8], contents: u64) -> u64 {
    INODE_COST.saturating_add(path.len() as u64).saturating_add(contents)
}

/// The bytes that a child takes in its directory's contents.
fn entry_len(path: &[u8]) -> u64 {
    dirent::entry_len(path::name(path).len()) as u64
}

#[derive(Clone, Debug)]
pub(super) struct Namespace {
    inodes: OrdMap<u64, Arc<Inode>>,
    names: OrdMap<Arc<[u8]>, u64>,
    /// By directory and child. Numbers only grow, so this is the order of creation too.
    children: OrdSet<(u64, u64)>,
    next_inode: u64,
    /// The sum of all costs.
    data: u64,
    /// That of all inodes.
    digest: Digest,
}

impl Namespace {
    /// Nothing, not even a root.
    pub(super) fn empty(next_inode: u64) -> Self {
        let (inodes, names, children) = (OrdMap::new(), OrdMap::new(), OrdSet::new());
        Self { inodes, names, children, next_inode, data: 0, digest: Digest::default() }
    }

    /// A root without children. It has no dates before [`Self::begin`].
    pub(super) fn new() -> Self {
        let mut namespace = Self::empty(FIRST_INODE);
        namespace.insert(ROOT_INODE, Inode::new(path::ROOT, true, 0));
        namespace
    }

    /// Dates the root, when the cell begins its life.
    pub(super) fn begin(&mut self, at: u64) {
        self.change(ROOT_INODE, |root| (root.created, root.modified) = (at, at));
    }

    pub(super) const fn next_inode(&self) -> u64 {
        self.next_inode
    }

    pub(super) const fn data(&self) -> u64 {
        self.data
    }

    pub(super) fn len(&self) -> usize {
        self.inodes.len()
    }

    /// The part of all inodes in the digest.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// The same, worked out anew, contents and all.
    pub(super) fn recomputed_digest(&self) -> Digest {
        let mut digest = Digest::default();
        for (number, inode) in self.from(0) {
            let mut inode = inode.clone();
            if let Body::File(data, _) = inode.body {
                inode.body = Body::file(data);
            }
            digest.add(inode.item(number));
        }
        digest
    }

    pub(super) fn get(&self, inode: u64) -> Option<&Inode> {
        self.inodes.get(&inode).map(Arc::as_ref)
    }

    /// All inodes from `inode` on, in the order of their numbers.
    pub(super) fn from(&self, inode: u64) -> impl Iterator<Item = (u64, &Inode)> {
        self.inodes.range(inode..).map(|(&number, inode)| (number, inode.as_ref()))
    }

    /// The inode of a path.
    pub(super) fn lookup(&self, path: &[u8]) -> Option<u64> {
        self.names.get(path).copied()
    }

    pub(super) fn is_directory(&self, inode: u64) -> bool {
        self.get(inode).is_some_and(|inode| matches!(inode.body, Body::Directory { .. }))
    }

    pub(super) fn has_children(&self, inode: u64) -> bool {
        self.children(inode).next().is_some()
    }

    /// The directory that holds `path`, or could hold it.
    pub(super) fn parent(&self, path: &[u8]) -> Option<u64> {
        self.lookup(path::parent(path)).filter(|&parent| self.is_directory(parent))
    }

    /// Creates a file or directory in the directory `parent`; its number.
    pub(super) fn create(&mut self, parent: u64, path: &[u8], directory: bool, at: u64) -> u64 {
        let number = self.next_inode;
        self.next_inode = number.saturating_add(1);
        self.insert(number, Inode::new(path, directory, at));
        self.touch(parent, at);
        number
    }

    /// Replaces the contents of a file.
    pub(super) fn put(&mut self, inode: u64, data: &Arc<[u8]>, at: u64) {
        let costs = self.change(inode, |file| {
            let before = file.cost();
            file.body = Body::file(data.clone());
            file.touch(at);
            (before, file.cost())
        });
        let (before, after) = costs.unwrap_or_default();
        self.data = self.data.saturating_sub(before).saturating_add(after);
    }

    /// Removes a file or an empty directory; the directory that held it.
    pub(super) fn remove(&mut self, number: u64, at: u64) -> Option<u64> {
        let inode = self.inodes.remove(&number)?;
        self.digest.remove(inode.item(number));
        let parent = self.lookup(path::parent(&inode.path))?;
        self.names.remove(&*inode.path);
        self.data = self.data.saturating_sub(inode.cost());
        self.children.remove(&(parent, number));
        let freed = entry_len(&inode.path);
        self.list(parent, |listing| listing.saturating_sub(freed));
        self.touch(parent, at);
        Some(parent)
    }

    /// Puts an inode back from a snapshot, where it comes after its directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn restore(&mut self, number: u64, inode: Inode) -> Result<(), &'static str> {
        let is_root = *inode.path == *path::ROOT;
        if path::parse(&inode.path) != Some(&*inode.path) {
            Err("its path is malformed")
        } else if is_root != (number == ROOT_INODE)
            || (is_root && !matches!(inode.body, Body::Directory { .. }))
        {
            Err("the root is the directory of number 10")
        } else if !is_root && !(FIRST_INODE..self.next_inode).contains(&number) {
            Err("its number was never given out")
        } else if self.names.contains_key(&*inode.path) || self.inodes.contains_key(&number) {
            Err("there are two of it")
        } else if !is_root && self.parent(&inode.path).is_none() {
            Err("its directory is missing")
        } else {
            self.insert(number, inode);
            Ok(())
        }
    }

    /// A file with its metadata; its contents are as they stand in GET's reply.
    ///
    /// # Errors
    /// [`Code::InodeInval`] if there is none, [`Code::TooLarge`] for a directory whose list no reply can carry.
    pub(super) fn read(&self, number: u64) -> Result<File, Code> {
        let inode = self.get(number).ok_or(Code::InodeInval)?;
        let data = match &inode.body {
            Body::File(data, _) => data.clone(),
            Body::Directory { listing } => self.listing(number, *listing)?,
        };
        Ok(File { meta: inode.meta(number), data })
    }

    /// The metadata of a file.
    ///
    /// # Errors
    /// [`Code::InodeInval`] if there is none.
    pub(super) fn meta(&self, number: u64) -> Result<Meta, Code> {
        Ok(self.get(number).ok_or(Code::InodeInval)?.meta(number))
    }

    fn listing(&self, directory: u64, len: u64) -> Result<Arc<[u8]>, Code> {
        let len = usize::try_from(len).ok().filter(|&len| len <= MAX_PAYLOAD).ok_or(Code::TooLarge)?;
        let mut data = vec![0; len];
        let mut out = Writer::new(&mut data);
        for child in self.children(directory).filter_map(|child| self.get(child)) {
            dirent::emit(path::name(&child.path), &mut out).map_err(|_| Code::TooLarge)?;
        }
        Ok(data.into())
    }

    fn children(&self, directory: u64) -> impl Iterator<Item = u64> {
        self.children.range((directory, 0)..=(directory, u64::MAX)).map(|&(_, child)| child)
    }

    /// Changes an inode: the only way to do so.
    fn change<T>(&mut self, number: u64, change: impl FnOnce(&mut Inode) -> T) -> Option<T> {
        let inode = self.inodes.get_mut(&number).map(Arc::make_mut)?;
        self.digest.remove(inode.item(number));
        let changed = change(inode);
        self.digest.add(inode.item(number));
        Some(changed)
    }

    fn touch(&mut self, inode: u64, at: u64) {
        self.change(inode, |inode| inode.touch(at));
    }

    fn list(&mut self, directory: u64, change: impl Fn(u64) -> u64) {
        self.change(directory, |inode| {
            if let Body::Directory { listing } = &mut inode.body {
                *listing = change(*listing);
            }
        });
    }

    fn insert(&mut self, number: u64, inode: Inode) {
        if let Some(parent) = self.parent(&inode.path) {
            self.children.insert((parent, number));
            let added = entry_len(&inode.path);
            self.list(parent, |listing| listing.saturating_add(added));
        }
        self.data = self.data.saturating_add(inode.cost());
        self.names.insert(inode.path.clone(), number);
        self.digest.add(inode.item(number));
        self.inodes.insert(number, Arc::new(inode));
    }
}
