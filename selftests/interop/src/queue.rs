// SPDX-License-Identifier: GPL-2.0-or-later
//! The driver's half of the split queue of a virtio-mem device.
//!
//! Each request has a place of its own: two descriptors, one for the request and
//! one for the response, and their buffers. A request whose place is used a second
//! time before it was made again has been answered twice.
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vhost::VringConfigData;
use vm_memory::{Bytes, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress, MmapRegion};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::Result;

/// Number of descriptors of the queue; half as many requests fit.
pub const SIZE: u16 = 64;
const PLACES: u16 = SIZE / 2;

// Offsets in the queue's memory region.
const DESCRIPTORS: u64 = 0x1000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x4000;
const BUFFER_SIZE: u64 = 64;
const RESPONSE: u64 = 32;

// Sizes of the device's messages.
const REQUEST_SIZE: u32 = 24;
const RESPONSE_SIZE: u32 = 10;

const DESC_F_NEXT: u16 = 1;
const DESC_F_WRITE: u16 = 2;

/// A type that no response of the device has.
const NO_RESPONSE: u16 = 0xffff;

/// A bound on hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval between checks of the ring.
const PAUSE: Duration = Duration::from_micros(50);

pub struct Queue {
    memory: GuestRegionMmap,
    pub kick: EventFd,
    pub call: EventFd,
    /// Number of requests made.
    made: u64,
    /// Number of responses seen.
    seen: u64,
    /// The unanswered request in each place.
    places: [Option<u64>; PLACES as usize],
}

fn at(offset: u64) -> MemoryRegionAddress {
    MemoryRegionAddress(offset)
}

impl Queue {
    pub fn new(region: &GuestRegionMmap) -> Result<Queue> {
        let memory = GuestRegionMmap::with_arc(region.get_mmap(), region.start_addr());

        Ok(Queue {
            memory: memory.ok_or("the region is at the end of all memory")?,
            kick: EventFd::new(EFD_NONBLOCK)?,
            call: EventFd::new(EFD_NONBLOCK)?,
            made: 0,
            seen: 0,
            places: [None; PLACES as usize],
        })
    }

    fn user_address(&self, offset: u64) -> u64 {
        let mapping: &MmapRegion = &self.memory.get_mmap();

        mapping.as_ptr() as u64 + offset
    }

    pub fn config(&self) -> VringConfigData {
        VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            desc_table_addr: self.user_address(DESCRIPTORS),
            avail_ring_addr: self.user_address(AVAIL),
            used_ring_addr: self.user_address(USED),
            ..Default::default()
        }
    }

    pub fn avail_index(&self) -> u16 {
        self.made as u16
    }

    pub fn used_index(&self) -> u16 {
        self.memory
            .load(at(USED + 2), Ordering::Acquire)
            .expect("it is inside")
    }

    /// Number of requests answered so far.
    fn answered(&self) -> u64 {
        self.seen + u64::from(self.used_index().wrapping_sub(self.seen as u16))
    }

    fn put_descriptor(&self, index: u16, buffer: u64, size: u32, flags: u16) -> Result<()> {
        let gpa = self.memory.start_addr().0 + buffer;
        let descriptor = at(DESCRIPTORS + 16 * u64::from(index));
        let words = [
            gpa,
            u64::from(size) | u64::from(flags) << 32 | u64::from(index + 1) << 48,
        ];

        Ok(self.memory.write_obj(words, descriptor)?)
    }

    pub fn put(&mut self, kind: u16, address: u64, nr: u16) -> Result<String> {
        let place = self.places.iter().position(Option::is_none);
        let place = place.ok_or("the queue is full")?;
        let head = 2 * place as u16;
        let buffer = BUFFERS + BUFFER_SIZE * place as u64;
        let entry = AVAIL + 4 + 2 * (self.made % u64::from(SIZE));

        self.memory
            .write_obj([u64::from(kind), address, u64::from(nr)], at(buffer))?;
        self.memory.write_obj(NO_RESPONSE, at(buffer + RESPONSE))?;
        self.put_descriptor(head, buffer, REQUEST_SIZE, DESC_F_NEXT)?;
        self.put_descriptor(head + 1, buffer + RESPONSE, RESPONSE_SIZE, DESC_F_WRITE)?;
        self.memory.write_obj(head, at(entry))?;
        self.places[place] = Some(self.made);
        self.made += 1;
        self.memory
            .store(self.made as u16, at(AVAIL + 2), Ordering::Release)?;
        Ok((self.made - 1).to_string())
    }

    pub fn kick(&self) -> Result<String> {
        self.kick.write(1)?;
        Ok(String::new())
    }

    /// Take one response: the number of its request, and its type.
    fn take(&mut self) -> Result<(u64, u16)> {
        let entry = USED + 4 + 8 * (self.seen % u64::from(SIZE));
        let [head, size]: [u32; 2] = self.memory.read_obj(at(entry))?;
        let place = head as usize / 2;

        self.seen += 1;
        if head % 2 != 0 || place >= self.places.len() || size != RESPONSE_SIZE {
            return Err(format!("used: descriptor {head}, {size} bytes").into());
        }
        let request = self.places[place].take();
        let request = request.ok_or(format!("descriptor {head} was answered twice"))?;
        let buffer = BUFFERS + BUFFER_SIZE * place as u64;

        Ok((request, self.memory.read_obj(at(buffer + RESPONSE))?))
    }

    pub fn wait(&mut self, nr: u64) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        let mut text = Vec::new();

        if nr > self.made {
            return Err("so many have not been made".into());
        }
        while self.answered() < nr {
            if Instant::now() > end {
                return Err(format!("{} of {nr} were answered", self.answered()).into());
            }
            sleep(PAUSE);
        }
        while self.seen < self.answered() {
            let (request, kind) = self.take()?;

            text.push(format!("{request}:{kind}"));
        }
        Ok(text.join(" "))
    }

    pub fn kill(&self, pid: i32, nr: u64) -> Result<String> {
        let nr = nr.min(self.made);
        let end = Instant::now() + PATIENCE;

        while self.answered() < nr && Instant::now() < end {
            std::hint::spin_loop();
        }
        // SAFETY: the call takes numbers only.
        if unsafe { libc::kill(pid, libc::SIGKILL) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(self.answered().to_string())
    }
}
