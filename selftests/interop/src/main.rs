// SPDX-License-Identifier: GPL-2.0-or-later
//! A VMM of a few lines, on rust-vmm's vhost crate, for scripts/test-interop.
//!
//! It has guest memory, the driver's half of a queue, and a front end that makes
//! its calls in cloud-hypervisor's order. Like a VMM, it outlives its vmemd.
//!
//! Each line of standard input is a command; each is answered by a line that
//! begins with "ok", or "error" and the reason:
//!
//! - `connect PATH BASE CHANNEL INFLIGHT`: set up the device, also after it was
//!   lost. BASE is the value for SET_VRING_BASE: `used` or `avail` for that index
//!   of the ring, or a number. CHANNEL is `first`, `last` or `none`: the backend
//!   channel is set before the queue is enabled, after that, or not at all.
//!   INFLIGHT is `yes` or `no`. Answers with the features, the protocol features,
//!   and the configuration in hexadecimal.
//! - `disconnect`: close the connection.
//! - `stop`: disable the queue and stop it. Answers with the base.
//! - `config OFFSET SIZE`: read the configuration. Answers in hexadecimal.
//! - `put TYPE ADDRESS NR`: make a request available. Answers with its number.
//! - `kick`: notify the device.
//! - `wait NR`: wait until a total of NR requests have been answered. Answers with
//!   the numbers and types of all new answers.
//! - `kill PID NR`: wait until a total of NR requests have been answered, or no
//!   request is pending; then kill that process.
//! - `changes NR`: wait until a total of NR configuration changes were notified.
// The linker warns about the standard library in a static program.
#![allow(linker_messages)]

mod front_end;
mod memory;
mod queue;

use std::io::{stdin, BufRead};
use std::sync::{Arc, Mutex};

use front_end::FrontEnd;
use memory::Memory;
use queue::Queue;

pub type Error = Box<dyn std::error::Error>;
pub type Result<T> = std::result::Result<T, Error>;

struct Vmm {
    queue: Queue,
    front_end: FrontEnd,
}

impl Vmm {
    fn run(&mut self, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();

        match words[..] {
            ["connect", path, base, channel, inflight] => {
                let base = match base {
                    "used" => self.queue.used_index(),
                    "avail" => self.queue.avail_index(),
                    number => number.parse()?,
                };
                self.front_end
                    .connect(path, &self.queue, base, channel, inflight == "yes")
            }
            ["disconnect"] => self.front_end.disconnect(),
            ["stop"] => self.front_end.stop(),
            ["config", offset, size] => self.front_end.config(offset.parse()?, size.parse()?),
            ["put", kind, address, nr] => {
                self.queue.put(kind.parse()?, address.parse()?, nr.parse()?)
            }
            ["kick"] => self.queue.kick(),
            ["wait", nr] => self.queue.wait(nr.parse()?),
            ["kill", pid, nr] => self.queue.kill(pid.parse()?, nr.parse()?),
            ["changes", nr] => self.front_end.changes(nr.parse()?),
            _ => Err("no such command".into()),
        }
    }
}

/// Arguments: the guest address of the device's memory, and the number of
/// regions of the VMM's own memory.
fn start() -> Result<Vmm> {
    let args: Vec<String> = std::env::args().collect();
    let [_, gpa, regions] = &args[..] else {
        return Err("usage: interop ADDRESS REGIONS".into());
    };
    let memory = Memory::new(gpa.parse()?, regions.parse()?)?;
    // The queue is in the last region: it works only if all regions are shared.
    let queue = Queue::new(memory.last())?;

    Ok(Vmm {
        front_end: FrontEnd::new(Arc::new(Mutex::new(memory))),
        queue,
    })
}

fn main() -> Result<()> {
    let mut vmm = start()?;

    for line in stdin().lock().lines() {
        match vmm.run(&line?) {
            Ok(text) => println!("ok {text}"),
            Err(error) => println!("error {error}"),
        }
    }
    Ok(())
}
