// SPDX-License-Identifier: GPL-2.0-or-later
//! Guest memory: the VMM's own, and the mappings that the device requested.
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};

use vhost::VhostUserMemoryRegionInfo;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap};

use crate::Result;

/// Size of each region of the VMM's own memory, and the distance of two
/// regions.
const REGION_SIZE: usize = 1 << 20;
const REGION_STEP: u64 = 2 << 20;

pub struct Memory {
    own: Vec<GuestRegionMmap>,
    /// Mappings, by their offset in the device's memory.
    mapped: BTreeMap<u64, GuestRegionMmap>,
    device_gpa: u64,
}

fn map(gpa: u64, size: usize, file: File, offset: u64) -> Result<GuestRegionMmap> {
    let offset = FileOffset::new(file, offset);

    Ok(GuestRegionMmap::from_range(
        GuestAddress(gpa),
        size,
        Some(offset),
    )?)
}

fn memory_file(name: &CStr, size: u64) -> Result<File> {
    // SAFETY: the name is a string, and the descriptor, if it is one, is new.
    let file = unsafe {
        match libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) {
            -1 => return Err(std::io::Error::last_os_error().into()),
            fd => File::from_raw_fd(fd),
        }
    };

    file.set_len(size)?;
    Ok(file)
}

impl Memory {
    pub fn new(device_gpa: u64, regions: u64) -> Result<Memory> {
        let mut own = Vec::new();

        for i in 0..regions {
            let file = memory_file(c"own", REGION_SIZE as u64)?;

            own.push(map(i * REGION_STEP, REGION_SIZE, file, 0)?);
        }
        Ok(Memory {
            own,
            mapped: BTreeMap::new(),
            device_gpa,
        })
    }

    /// The last region of the VMM's own memory.
    pub fn last(&self) -> &GuestRegionMmap {
        &self.own[self.own.len() - 1]
    }

    pub fn table(&self) -> Result<Vec<VhostUserMemoryRegionInfo>> {
        let regions = self.own.iter().chain(self.mapped.values());

        Ok(regions
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<vhost::Result<_>>()?)
    }

    /// Map a part of a file at the requested offset. The mapping keeps the
    /// file.
    pub fn map(&mut self, fd: RawFd, fd_offset: u64, offset: u64, size: u64) -> Result<()> {
        // SAFETY: the caller keeps the descriptor open.
        let file = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        let gpa = self.device_gpa + offset;
        let region = map(gpa, size as usize, file.into(), fd_offset)?;

        self.mapped.insert(offset, region);
        Ok(())
    }

    pub fn unmap(&mut self, offset: u64) -> Result<()> {
        match self.mapped.remove(&offset) {
            Some(_) => Ok(()),
            None => Err("nothing is mapped there".into()),
        }
    }
}
