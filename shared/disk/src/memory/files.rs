//! Files and names as they are now, and how to take back what is not durable.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;

use super::content::Content;
use super::faults::Bad;
use crate::Access;
use crate::whole::folder_of;

/// A file's own number, which its names lead to.
pub(super) type Inode = u32;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Folder,
    File(Inode),
}

/// A file, whatever its names.
#[derive(Clone)]
pub(super) struct File {
    content: Content,
    access: Access,
    /// What was changed since the last sync, oldest first.
    pub(super) changes: Vec<(u64, Change)>,
    pub(super) bad: Vec<(Bad, u64, u64)>,
}

/// A change of a file's content, with what it takes to undo it.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Arc<[u8]>, before: Vec<u8>, length_before: u64 },
    Truncate { length: u64, before: Content },
    Put { after: Content, before: Content },
}

/// A change of one name, or of two at one instant.
#[derive(Clone)]
pub(super) struct Renaming {
    pub(super) at: u64,
    pub(super) names: Vec<NameChange>,
}

#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) name: Arc<str>,
    pub(super) before: Option<Entry>,
    pub(super) after: Option<Entry>,
}

/// Everything that lies on a disk.
#[derive(Clone, Default)]
pub(super) struct Files {
    names: BTreeMap<Arc<str>, Entry>,
    inodes: BTreeMap<Inode, File>,
    inode_next: Inode,
    /// Changes of names since their folder was synced, oldest first.
    pub(super) renamings: Vec<Renaming>,
    /// The number of the present operation.
    pub(super) now: u64,
}

impl File {
    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    pub(super) fn rot(&mut self, offset: u64, byte: u8) {
        self.content.write(offset, &[byte]);
    }

    /// Goes back to what is durable. What was not is forgotten.
    pub(super) fn take_back(&mut self) {
        for (_, change) in core::mem::take(&mut self.changes).into_iter().rev() {
            match change {
                Change::Write { offset, before, length_before, .. } => {
                    self.content.write(offset, &before);
                    self.content.set_length(length_before);
                }
                Change::Truncate { before, .. } | Change::Put { before, .. } => {
                    self.content = before;
                }
            }
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.content.write(offset, bytes);
        }
    }

    pub(super) fn grow(&mut self, length: u64) {
        self.content.set_length(self.content.len().max(length));
    }

    pub(super) fn truncate(&mut self, length: u64) {
        self.content.set_length(self.content.len().min(length));
    }

    pub(super) fn set(&mut self, content: Content) {
        self.content = content;
    }
}

impl Files {
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Entry)> {
        self.names.iter().map(|(name, entry)| (&**name, *entry))
    }

    pub(super) fn inode(&self, inode: Inode) -> Option<&File> {
        self.inodes.get(&inode)
    }

    pub(super) fn inode_mut(&mut self, inode: Inode) -> Option<&mut File> {
        self.inodes.get_mut(&inode)
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = (Inode, &File)> {
        self.inodes.iter().map(|(inode, file)| (*inode, file))
    }

    pub(super) fn name_of(&self, inode: Inode) -> Option<&str> {
        self.entries().find(|(_, entry)| *entry == Entry::File(inode)).map(|(name, _)| name)
    }

    pub(super) fn inodes_mut(&mut self) -> impl Iterator<Item = &mut File> {
        self.inodes.values_mut()
    }

    pub(super) fn file(&self, name: &str) -> Option<&File> {
        self.inodes.get(&self.inode_of(name)?)
    }

    pub(super) fn file_mut(&mut self, name: &str) -> Option<&mut File> {
        let inode = self.inode_of(name)?;
        self.inodes.get_mut(&inode)
    }

    fn inode_of(&self, name: &str) -> Option<Inode> {
        match self.names.get(name)? {
            Entry::File(inode) => Some(*inode),
            Entry::Folder => None,
        }
    }

    pub(super) fn is_folder(&self, name: &str) -> bool {
        name.is_empty() || self.names.get(name) == Some(&Entry::Folder)
    }

    /// A file where a folder should be: `folder` itself or one above it.
    pub(super) fn file_above(&self, folder: &str) -> Option<String> {
        let is_file = |name: &&str| self.inode_of(name).is_some();
        upwards(folder).find(is_file).map(ToString::to_string)
    }

    pub(super) fn list(&self, folder: &str) -> Vec<String> {
        let prefix = if folder.is_empty() { String::new() } else { folder.to_string() + "/" };
        let below = self
            .names
            .range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded))
            .map(|(name, _)| &**name);
        let below = below.take_while(|name| name.starts_with(&prefix));
        let direct = below.map(|name| &name[prefix.len()..]).filter(|name| !name.contains('/'));
        direct.map(ToString::to_string).collect()
    }

    /// Bytes of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let inodes = self.names.values().filter_map(|entry| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Folder => None,
        });
        let inodes: BTreeSet<Inode> = inodes.collect();
        inodes.iter().map(|inode| self.inodes[inode].content.len()).sum()
    }

    pub(super) fn create(&mut self, name: &str, access: Access) {
        if self.inode_of(name).is_some() {
            return self.truncate(name, 0);
        }
        let inode = self.inode_next;
        self.inode_next += 1;
        let (content, changes, bad) = (Content::default(), Vec::new(), Vec::new());
        self.inodes.insert(inode, File { content, access, changes, bad });
        self.rename_all(&[(name, Some(Entry::File(inode)))]);
    }

    pub(super) fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let now = self.now;
        let Some(file) = self.file_mut(name).filter(|_| !bytes.is_empty()) else { return };
        let before = file.content.slice(offset..offset + bytes.len() as u64);
        let length_before = file.content.len();
        file.content.write(offset, bytes);
        let change = Change::Write { offset, bytes: Arc::from(bytes), before, length_before };
        file.changes.push((now, change));
    }

    pub(super) fn truncate(&mut self, name: &str, length: u64) {
        let now = self.now;
        let file = self.file_mut(name).filter(|file| file.content.len() > length);
        let Some(file) = file else { return };
        let before = file.content.clone();
        file.content.set_length(length);
        file.changes.push((now, Change::Truncate { length, before }));
    }

    pub(super) fn put(&mut self, name: &str, content: Content) {
        if self.inode_of(name).is_none() {
            self.create(name, Access::Folder);
        }
        let now = self.now;
        let Some(file) = self.file_mut(name) else { return };
        let before = core::mem::replace(&mut file.content, content.clone());
        file.changes.push((now, Change::Put { after: content, before }));
    }

    pub(super) fn sync(&mut self, name: &str) {
        if let Some(file) = self.file_mut(name) {
            file.changes = Vec::new();
        }
    }

    pub(super) fn make_folder(&mut self, folder: &str) {
        let missing: Vec<&str> = upwards(folder).filter(|name| !self.is_folder(name)).collect();
        for name in missing.into_iter().rev() {
            self.rename_all(&[(name, Some(Entry::Folder))]);
        }
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        // Two names of one file stay two names.
        if let Some(inode) = self.inode_of(from)
            && self.inode_of(to) != Some(inode)
        {
            self.rename_all(&[(from, None), (to, Some(Entry::File(inode)))]);
        }
    }

    pub(super) fn link(&mut self, from: &str, to: &str) {
        let inode = self.inode_of(from).map(Entry::File);
        self.rename_all(&[(to, inode)]);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.rename_all(&[(name, None)]);
    }

    /// Makes the names in a folder durable, and with them what happened to the same names before.
    pub(super) fn sync_folder(&mut self, folder: &str) {
        let mut certain: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut left: Vec<Renaming> = Vec::new();
        for renaming in core::mem::take(&mut self.renamings).into_iter().rev() {
            let is_certain =
                |it: &NameChange| folder_of(&it.name) == folder || certain.contains(&it.name);
            if renaming.names.iter().any(is_certain) {
                certain.extend(renaming.names.into_iter().map(|it| it.name));
            } else {
                left.push(renaming);
            }
        }
        left.reverse();
        self.renamings = left;
        self.forget_nameless();
    }

    fn rename_all(&mut self, changes: &[(&str, Option<Entry>)]) {
        let mut names = vec![];
        for (name, after) in changes {
            let name: Arc<str> = Arc::from(*name);
            let before = self.set(&name, *after);
            names.push(NameChange { name, before, after: *after });
        }
        self.renamings.push(Renaming { at: self.now, names });
    }

    pub(super) fn set(&mut self, name: &Arc<str>, entry: Option<Entry>) -> Option<Entry> {
        match entry {
            Some(entry) => self.names.insert(Arc::clone(name), entry),
            None => self.names.remove(name),
        }
    }

    /// Forgets what lies in folders that are not there, as after a power cut.
    pub(super) fn forget_homeless(&mut self) {
        let mut homeless = BTreeSet::new();
        for name in self.names.keys() {
            if upwards(folder_of(name)).any(|folder| !self.is_folder(folder)) {
                homeless.insert(Arc::clone(name));
            }
        }
        self.names.retain(|name, _| !homeless.contains(name));
        self.forget_nameless();
    }

    /// Forgets files that no name leads to any more, and none may lead to again.
    fn forget_nameless(&mut self) {
        let changes = self.renamings.iter().flat_map(|it| &it.names);
        let pending = changes.flat_map(|it| [it.before, it.after]).flatten();
        let entries = self.names.values().copied().chain(pending);
        let named: BTreeSet<Inode> = entries
            .filter_map(|entry| match entry {
                Entry::File(inode) => Some(inode),
                Entry::Folder => None,
            })
            .collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }
}

/// A name, and the folders above it, without the outermost.
fn upwards(name: &str) -> impl Iterator<Item = &str> {
    let mut next = name;
    core::iter::from_fn(move || {
        let name = Some(next).filter(|name| !name.is_empty())?;
        next = folder_of(name);
        Some(name)
    })
}
