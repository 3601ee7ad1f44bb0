//! Listening sockets, bound before any thread starts, so that a taken port leaves nothing half-started.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::address::Address;
use super::local::LocalStream;
use super::network::canonical;
use super::stream::Stream;
use crate::error::Error;

/// The kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What a listener's clients come for.
#[derive(Debug, Clone)]
pub enum Service {
    Http,
    /// They begin with a TLS handshake.
    Https,
    /// The database group of this name.
    Database(Arc<str>),
}

#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    service: Service,
}

/// An accepted connection that belongs to no event loop yet.
#[derive(Debug)]
pub struct Accepted {
    socket: Socket,
    /// The other end; a client on a Unix socket counts as local.
    pub peer: IpAddr,
    pub service: Service,
}

impl Listener {
    pub fn bind(text: &str, service: Service) -> Result<Self, Error> {
        let wanted = Address::parse(text).map_err(Error::Snapshot)?;
        Self::open(&wanted, service).map_err(|source| Error::Bind { address: text.to_owned(), source })
    }

    fn open(wanted: &Address, service: Service) -> io::Result<Self> {
        let (socket, address) = match wanted {
            Address::Tcp(address) => {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.bind(&SockAddr::from(*address))?;
                // Inherited by every accepted connection.
                socket.set_tcp_nodelay(true)?;
                let bound = socket.local_addr()?.as_socket().unwrap_or(*address);
                (socket, Address::Tcp(bound))
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
                (socket, wanted.clone())
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, service })
    }

    /// Lets connections in. Until then they are refused, so that nobody waits for what is not ready.
    pub fn listen(&self) -> Result<(), Error> {
        let failed = |source| Error::Bind { address: self.address.to_string(), source };
        self.socket.listen(BACKLOG).map_err(failed)
    }

    /// The bound address, with the real port where port 0 was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The next connection; `WouldBlock` when there is none now.
    pub fn accept(&self) -> io::Result<Accepted> {
        let (socket, from) = self.socket.accept()?;
        let peer = from.as_socket().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| canonical(address.ip()));
        socket.set_nonblocking(true)?;
        Ok(Accepted { socket, peer, service: self.service.clone() })
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // Somebody may have tidied up before us.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Accepted {
    /// Joins the event loop of the calling thread.
    pub fn into_stream(self) -> io::Result<Stream> {
        if SockRef::from(&self.socket.as_fd()).domain()? == Domain::UNIX {
            LocalStream::new(self.socket.into()).map(Stream::Unix)
        } else {
            tokio::net::TcpStream::from_std(self.socket.into()).map(Stream::Tcp)
        }
    }
}

/// A socket file whose owner is gone would make bind fail for ever; one that still answers is somebody's.
fn remove_stale(path: &PathBuf) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}
