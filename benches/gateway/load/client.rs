//! All connections of a measurement, driven by one thread: on two cores the servers have to be given
//! what the client does not need, and one thread that looks at no body byte is far from busy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::connection::{Ask, Connection, Finished};
use crate::interrupt;

/// Most bytes of a body dropped by one call.
const SCRAP: usize = 1 << 20;
const EVENTS: usize = 256;

pub struct Client {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    scrap: Vec<u8>,
    /// Of bodies, over all connections.
    pub bytes: u64,
}

impl Client {
    pub fn connect(address: SocketAddr, connections: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connections = (0..connections)
            .map(|at| {
                let connection = Connection::open(address)?;
                let data = epoll::EventData::new_u64(at as u64);
                epoll::add(&epoll, &connection.socket, data, epoll::EventFlags::IN)?;
                Ok(connection)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            epoll,
            connections,
            events: Vec::with_capacity(EVENTS),
            scrap: vec![0; SCRAP],
            bytes: 0,
        })
    }

    /// Keeps what the kernel holds for connections that nobody reads from small.
    pub fn shrink_windows(&self) -> io::Result<()> {
        for connection in &self.connections {
            sockopt::set_socket_recv_buffer_size(&connection.socket, 4096)?;
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    pub fn send(&mut self, connection: usize, which: usize, asks: &[Ask]) -> io::Result<()> {
        self.connections[connection].send(which, &asks[which])
    }

    /// Sends to each idle connection what `next` gives, until it gives nothing.
    pub fn send_to_idle(
        &mut self,
        asks: &[Ask],
        mut next: impl FnMut() -> Option<usize>,
    ) -> io::Result<()> {
        for connection in self.connections.iter_mut().filter(|it| it.is_idle()) {
            let Some(which) = next() else { break };
            connection.send(which, &asks[which])?;
        }
        Ok(())
    }

    /// Takes what has arrived, waiting for it no longer than `patience`. On each whole answer
    /// `next` says what its connection asks for now.
    pub fn wait(
        &mut self,
        asks: &[Ask],
        patience: Duration,
        mut next: impl FnMut(&Finished) -> Option<usize>,
    ) -> io::Result<()> {
        interrupt::check()?;
        let patience = Timespec::try_from(patience).expect("a short time");
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&patience),
        ) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(other) => return Err(other.into()),
        }
        for event in &self.events {
            let at = event.data.u64() as usize;
            let connection = &mut self.connections[at];
            if connection.advance(asks, &mut self.scrap, &mut self.bytes)?
                && let Some(which) = next(&connection.finished())
            {
                connection.send(which, &asks[which])?;
            }
        }
        Ok(())
    }
}
