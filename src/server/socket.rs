//! Sockets that listen, on the network or in the file system, and what they accept.
//!
//! A socket in the file system is a file, which outlives its process where that is killed. A stale one,
//! on which nobody listens any more, is replaced; whatever else is in its place stays untouched. The
//! file is for its owner and group, and is removed when its listener ends.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::proxy::SocketAddress;

/// Connections that may wait in the system until they are accepted.
const BACKLOG: i32 = 1024;

/// Who may connect to a socket in the file system: its owner and group.
const PERMISSIONS: u32 = 0o660;

/// A socket that listens, in non-blocking mode.
#[derive(Debug)]
pub struct Listening {
    socket: Family,
    address: SocketAddress,
}

#[derive(Debug)]
enum Family {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The same on a runtime.
#[derive(Debug)]
pub struct Accepting(AcceptingFamily);

#[derive(Debug)]
enum AcceptingFamily {
    Tcp(tokio::net::TcpListener),
    Unix {
        socket: tokio::net::UnixListener,
        /// Removed after the socket is closed.
        _file: SocketFile,
    },
}

/// A connection that was accepted, in non-blocking mode.
#[derive(Debug)]
pub enum Accepted {
    /// Over the network, with the other end's address.
    Tcp(TcpStream, SocketAddr),
    /// In the file system; the other end has no address.
    Unix(UnixStream),
}

impl Accepted {
    /// The other end's address, where it has one.
    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, peer) => Some(*peer),
            Self::Unix(_) => None,
        }
    }
}

impl Listening {
    /// Binds the address and listens. Port 0 stands for any free one.
    ///
    /// # Errors
    /// What the system says; of a path, a sentence of what is in the way.
    pub fn bind(address: &SocketAddress) -> io::Result<Self> {
        match address {
            SocketAddress::Ip(address) => {
                let socket = bind_ip(*address)?;
                let address = socket.local_addr()?.into();
                let socket = Family::Tcp(socket);
                Ok(Self { socket, address })
            }
            SocketAddress::Unix(path) => {
                let (socket, file) = bind_path(path).map_err(|error| explained(path, error))?;
                let socket = Family::Unix(socket, file);
                let address = address.clone();
                Ok(Self { socket, address })
            }
        }
    }

    /// What it is bound to, with the port that the system chose.
    pub const fn address(&self) -> &SocketAddress {
        &self.address
    }

    /// Takes it to the current runtime.
    ///
    /// # Errors
    /// The runtime has no room for the socket.
    pub fn accepting(self) -> io::Result<Accepting> {
        Ok(Accepting(match self.socket {
            Family::Tcp(socket) => AcceptingFamily::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Family::Unix(socket, file) => AcceptingFamily::Unix {
                socket: tokio::net::UnixListener::from_std(socket)?,
                _file: file,
            },
        }))
    }
}

impl Accepting {
    /// The next connection.
    ///
    /// # Errors
    /// What the system says; mostly of that one connection, or of a want of descriptors.
    pub async fn accept(&self) -> io::Result<Accepted> {
        // It may be served by another runtime.
        match &self.0 {
            AcceptingFamily::Tcp(socket) => {
                let (accepted, peer) = socket.accept().await?;
                Ok(Accepted::Tcp(accepted.into_std()?, peer))
            }
            AcceptingFamily::Unix { socket, .. } => {
                let (accepted, _) = socket.accept().await?;
                Ok(Accepted::Unix(accepted.into_std()?))
            }
        }
    }
}

fn bind_ip(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // So that a restart does not have to wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_path(path: &Arc<Path>) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    // Before anybody can connect.
    fs::set_permissions(path, Permissions::from_mode(PERMISSIONS))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

/// Removes a socket on which nobody listens.
fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Its backlog is full: somebody listens.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

fn explained(path: &Path, error: io::Error) -> io::Error {
    let sentences = [
        (
            ErrorKind::AlreadyExists,
            "there is a file that is no socket; nothing was touched, so remove it, or choose another path",
        ),
        (
            ErrorKind::AddrInUse,
            "another program or another listener listens there; stop that one, or choose another path",
        ),
        (
            ErrorKind::NotFound,
            "its folder does not exist; make it, or choose another path",
        ),
        (
            ErrorKind::PermissionDenied,
            "not permitted; the process needs the right to write to its folder, and to a socket that \
             is there already",
        ),
    ];
    let kind = error.kind();
    match sentences.into_iter().find(|(of, _)| *of == kind) {
        Some((_, sentence)) => io::Error::new(kind, sentence),
        None => io::Error::new(kind, format!("{}: {error}", path.display())),
    }
}

/// The file of a socket, which is removed with its listener, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: Arc<Path>,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Arc<Path>) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self {
            path: Arc::clone(path),
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours {
            // Left behind, it is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn at(folder: &tempfile::TempDir, name: &str) -> SocketAddress {
        let path = folder.path().join(name);
        SocketAddress::Unix(path.into())
    }

    fn path(address: &SocketAddress) -> &Path {
        match address {
            SocketAddress::Unix(path) => path,
            SocketAddress::Ip(_) => unreachable!("a path"),
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_the_file_goes_with_its_listener() {
        let folder = tempfile::tempdir().expect("a folder");
        let address = at(&folder, "a.sock");
        // A process that was killed leaves its file behind.
        drop(UnixListener::bind(path(&address)).expect("bound"));
        assert!(path(&address).exists());
        let listening = Listening::bind(&address).expect("replaced");
        let found = fs::symlink_metadata(path(&address)).expect("there");
        assert_eq!(found.permissions().mode() & 0o777, PERMISSIONS);
        let mut client = UnixStream::connect(path(&address)).expect("it listens");
        client.write_all(b"x").expect("open");
        drop(listening);
        assert!(!path(&address).exists());
        assert!(client.read(&mut [0]).map_or(true, |bytes| bytes == 0));
    }

    #[test]
    fn what_is_in_the_way_is_left_alone_and_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = at(&folder, "taken.sock");
        let first = Listening::bind(&taken).expect("free");
        let told = Listening::bind(&taken).expect_err("in use").to_string();
        assert!(told.contains("listens there"), "{told}");
        assert!(UnixStream::connect(path(&taken)).is_ok(), "not disturbed");
        drop(first);

        let file = at(&folder, "file");
        fs::write(path(&file), "mine").expect("written");
        let told = Listening::bind(&file).expect_err("a file").to_string();
        assert!(told.contains("no socket"), "{told}");
        assert_eq!(fs::read(path(&file)).expect("there"), b"mine");

        let nowhere = at(&folder, "nowhere/a.sock");
        let told = Listening::bind(&nowhere)
            .expect_err("no folder")
            .to_string();
        assert!(told.contains("folder does not exist"), "{told}");
    }

    #[test]
    fn a_file_that_another_has_put_there_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let address = at(&folder, "a.sock");
        let listening = Listening::bind(&address).expect("free");
        fs::remove_file(path(&address)).expect("removed");
        let _other = UnixListener::bind(path(&address)).expect("free again");
        drop(listening);
        assert!(path(&address).exists());
    }
}
