// SPDX-License-Identifier: GPL-2.0-or-later
//! The front end: a connection to the device, and its backend channel.
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep, JoinHandle};
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserMMap,
    VhostUserProtocolFeatures,
};
use vhost::vhost_user::{
    Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend, VhostUserFrontendReqHandler,
};
use vhost::VhostBackend;

use crate::memory::Memory;
use crate::queue::{self, Queue};
use crate::Result;

/// Features of a virtio-mem driver, and VHOST_USER_F_PROTOCOL_FEATURES.
const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 1;

/// Size of a virtio-mem device's configuration.
const CONFIG_SIZE: u32 = 56;

/// A bound on hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval between checks of a count.
const PAUSE: Duration = Duration::from_millis(1);

/// Serves the device's requests on the backend channel. A request is answered
/// once it is carried out and the device has the new memory table.
struct Services {
    frontend: Frontend,
    memory: Arc<Mutex<Memory>>,
    changes: Arc<AtomicU64>,
}

impl Services {
    fn change(&self, change: impl FnOnce(&mut Memory) -> Result<()>) -> HandlerResult<u64> {
        let mut memory = self.memory.lock().unwrap();
        let done =
            change(&mut memory).and_then(|()| Ok(self.frontend.set_mem_table(&memory.table()?)?));

        done.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(0)
    }
}

impl VhostUserFrontendReqHandler for Services {
    fn handle_config_change(&self) -> HandlerResult<u64> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(0)
    }

    fn shmem_map(&self, request: &VhostUserMMap, fd: &dyn AsRawFd) -> HandlerResult<u64> {
        let (fd_offset, offset, size) = (request.fd_offset, request.shm_offset, request.len);

        self.change(|memory| memory.map(fd.as_raw_fd(), fd_offset, offset, size))
    }

    fn shmem_unmap(&self, request: &VhostUserMMap) -> HandlerResult<u64> {
        let offset = request.shm_offset;

        self.change(|memory| memory.unmap(offset))
    }
}

/// The backend channel, and the thread that serves it.
struct Channel {
    thread: JoinHandle<()>,
    socket: UnixStream,
}

struct Connection {
    frontend: Frontend,
    channel: Option<Channel>,
}

pub struct FrontEnd {
    memory: Arc<Mutex<Memory>>,
    changes: Arc<AtomicU64>,
    connection: Option<Connection>,
    /// Kept from one connection to the next.
    inflight: Option<(VhostUserInflight, File)>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl FrontEnd {
    pub fn new(memory: Arc<Mutex<Memory>>) -> FrontEnd {
        FrontEnd {
            memory,
            changes: Arc::new(AtomicU64::new(0)),
            connection: None,
            inflight: None,
        }
    }

    fn connected(&mut self) -> Result<&mut Connection> {
        self.connection.as_mut().ok_or("not connected".into())
    }

    fn set_channel(&mut self) -> Result<()> {
        let memory = self.memory.clone();
        let changes = self.changes.clone();
        let connection = self.connected()?;
        let services = Services {
            frontend: connection.frontend.clone(),
            memory,
            changes,
        };
        let mut handler = FrontendReqHandler::new(Arc::new(services))?;
        // SAFETY: the handler keeps the descriptor open.
        let socket = unsafe { BorrowedFd::borrow_raw(handler.get_tx_raw_fd()) };
        let socket = UnixStream::from(socket.try_clone_to_owned()?);

        handler.set_reply_ack_flag(true);
        connection.frontend.set_backend_request_fd(&socket)?;
        connection.channel = Some(Channel {
            thread: thread::spawn(move || while handler.handle_request().is_ok() {}),
            socket,
        });
        Ok(())
    }

    fn set_inflight(&mut self) -> Result<()> {
        let wanted = VhostUserInflight {
            num_queues: 1,
            queue_size: queue::SIZE,
            ..Default::default()
        };

        if self.inflight.is_none() {
            self.inflight = Some(self.connected()?.frontend.get_inflight_fd(&wanted)?);
        }
        let (inflight, file) = self.inflight.as_ref().unwrap();
        let connection = self.connection.as_mut().ok_or("not connected")?;

        connection
            .frontend
            .set_inflight_fd(inflight, file.as_raw_fd())?;
        Ok(())
    }

    /// The calls have cloud-hypervisor's order, unless CHANNEL is `first`.
    pub fn connect(
        &mut self,
        path: &str,
        queue: &Queue,
        base: u16,
        channel: &str,
        inflight: bool,
    ) -> Result<String> {
        self.disconnect()?;
        let mut frontend = Frontend::connect(path, 1)?;

        frontend.set_owner()?;
        let offered = frontend.get_features()?;
        let mut features = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
        if channel != "none" {
            features |= VhostUserProtocolFeatures::BACKEND_REQ | VhostUserProtocolFeatures::SHMEM;
        }
        if inflight {
            features |= VhostUserProtocolFeatures::INFLIGHT_SHMFD;
        }
        features &= frontend.get_protocol_features()?;
        frontend.set_protocol_features(features)?;
        frontend.get_queue_num()?;
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_features(offered & FEATURES)?;
        self.connection = Some(Connection {
            frontend: frontend.clone(),
            channel: None,
        });
        let config = self.config(0, CONFIG_SIZE)?;

        frontend.set_mem_table(&self.memory.lock().unwrap().table()?)?;
        if inflight {
            self.set_inflight()?;
        }
        if channel == "first" {
            self.set_channel()?;
        }
        frontend.set_vring_num(0, queue::SIZE)?;
        frontend.set_vring_addr(0, &queue.config())?;
        frontend.set_vring_base(0, base)?;
        frontend.set_vring_call(0, &queue.call)?;
        frontend.set_vring_kick(0, &queue.kick)?;
        frontend.set_vring_enable(0, true)?;
        if channel == "last" {
            self.set_channel()?;
        }
        Ok(format!("{offered:x} {:x} {config}", features.bits()))
    }

    pub fn disconnect(&mut self) -> Result<String> {
        let Some(connection) = self.connection.take() else {
            return Ok(String::new());
        };

        drop(connection.frontend);
        if let Some(channel) = connection.channel {
            channel.socket.shutdown(std::net::Shutdown::Both)?;
            channel.thread.join().map_err(|_| "the channel's thread")?;
        }
        Ok(String::new())
    }

    pub fn stop(&mut self) -> Result<String> {
        let frontend = &mut self.connected()?.frontend;

        frontend.set_vring_enable(0, false)?;
        Ok(frontend.get_vring_base(0)?.to_string())
    }

    pub fn config(&mut self, offset: u32, size: u32) -> Result<String> {
        let zeros = vec![0; size as usize];
        let flags = VhostUserConfigFlags::empty();
        let frontend = &mut self.connected()?.frontend;
        let (_, bytes) = frontend.get_config(offset, size, flags, &zeros)?;

        Ok(hex(&bytes))
    }

    pub fn changes(&self, nr: u64) -> Result<String> {
        let end = Instant::now() + PATIENCE;

        while self.changes.load(Ordering::Relaxed) < nr {
            if Instant::now() > end {
                return Err("the configuration has not changed".into());
            }
            sleep(PAUSE);
        }
        Ok(self.changes.load(Ordering::Relaxed).to_string())
    }
}
