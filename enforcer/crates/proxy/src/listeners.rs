//! Where clients are met: every address bound once per thread, before anything is served.
//!
//! The threads share a port by `SO_REUSEPORT`, which would also let a second agent in without a
//! word. So each address is first bound without it: whoever holds it is found and named. A socket in
//! the file system is one for all threads ([`crate::unix`]).
//!
//! A process that takes over from another adopts its sockets ([`Listeners::adopt`]): whoever is in
//! the queue of one of them is served by the new process, and nobody is turned away meanwhile.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use enforcer_policy::{Address, Listener, Policy, Serves};
use socket2::{Domain, Protocol, Socket, Type};

use crate::holder::Holder;
use crate::unix;

/// Connections that the system may hold ready for one socket.
pub(crate) const BACKLOG: i32 = 4_096;

/// The sockets of all threads.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<(Arc<str>, Address)>,
    threads: Vec<ThreadListeners>,
}

/// The sockets of one thread.
#[derive(Debug)]
pub struct ThreadListeners(pub(crate) Vec<Bound>);

/// A socket that is listened on, and what happens with its connections.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: Arc<str>,
    pub(crate) serves: Serves,
    /// As the policy writes it, where port 0 is any.
    address: Address,
    pub(crate) opening: Opening,
}

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) enum Opening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listening socket on its way from one process to another.
#[derive(Debug)]
pub struct Inherited {
    /// The listener, as the policy of the process names it that opened the socket.
    pub listener: Arc<str>,
    /// Its address, as that policy writes it.
    pub address: Address,
    /// The socket.
    pub socket: OwnedFd,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "listener `{listener}`: {address} is in use by {}\n  hint: stop it, or choose another \
         address in [listen.{listener}]",
        .holder.as_ref().map_or_else(|| "another program".to_owned(), Holder::to_string)
    )]
    InUse {
        /// The listener.
        listener: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// Who listens there; none when that cannot be seen.
        holder: Option<Holder>,
    },
    /// Somebody else listens there, or another agent is about to.
    #[error(
        "listener `{listener}`: another program listens at unix:{}\n  hint: stop it, or choose \
         another path in [listen.{listener}]", .path.display()
    )]
    InUseUnix {
        /// The listener.
        listener: Arc<str>,
        /// The path.
        path: PathBuf,
    },
    /// No interface has the address.
    #[error(
        "listener `{listener}`: this host has no address {}\n  hint: `ip address` lists those that \
         it has; `0.0.0.0` and `[::]` are all of them", .address.ip()
    )]
    NotOurs {
        /// The listener.
        listener: Arc<str>,
        /// The address.
        address: SocketAddr,
    },
    /// Something that is no socket has the path.
    #[error(
        "listener `{listener}`: {} is there and is no socket\n  hint: move it away, or choose \
         another path in [listen.{listener}]", .path.display()
    )]
    NotASocket {
        /// The listener.
        listener: Arc<str>,
        /// The path.
        path: PathBuf,
    },
    /// The port is kept for privileged programs.
    #[error(
        "listener `{listener}`: port {} needs a privilege\n  hint: grant CAP_NET_BIND_SERVICE, or \
         choose a port from 1024 on", .address.port()
    )]
    NotPermitted {
        /// The listener.
        listener: Arc<str>,
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("listener `{listener}`: cannot listen on {address}")]
    System {
        /// The listener.
        listener: Arc<str>,
        /// The address.
        address: Address,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Listeners {
    /// Binds every address of `policy` for `threads` threads.
    pub fn bind(policy: &Policy, threads: NonZeroUsize) -> Result<Self, BindError> {
        Self::adopt(policy, threads, Vec::new())
    }

    /// Takes `inherited` sockets over, wherever `policy` still has their address, and binds what is
    /// missing. The others are closed.
    ///
    /// Every socket of an address is taken over, also when there are more of them than threads:
    /// clients wait in the queue of each.
    pub fn adopt(
        policy: &Policy,
        threads: NonZeroUsize,
        mut inherited: Vec<Inherited>,
    ) -> Result<Self, BindError> {
        let mut all = Self { addresses: Vec::new(), threads: Vec::new() };
        all.threads.resize_with(threads.get(), || ThreadListeners(Vec::new()));
        for listener in policy.listeners() {
            for address in &listener.addresses {
                // Port 0 is any; there the name tells one from another.
                let any = address.tcp().is_some_and(|address| address.port() == 0);
                let is_mine = |one: &mut Inherited| {
                    one.address == *address && (!any || one.listener == listener.name)
                };
                let mine = inherited.extract_if(.., is_mine).map(|one| one.socket).collect();
                all.add(listener, address, mine)?;
            }
        }
        Ok(all)
    }

    /// Every socket once more, for another process to adopt.
    pub fn share(&self) -> io::Result<Vec<Inherited>> {
        let mut shared = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            for bound in &thread.0 {
                let socket = match &bound.opening {
                    Opening::Tcp(listener) => listener.try_clone()?.into(),
                    // The threads have one between them.
                    Opening::Unix(_) if number > 0 => continue,
                    Opening::Unix(listener) => listener.try_clone()?.into(),
                };
                let (listener, address) = (Arc::clone(&bound.name), bound.address.clone());
                shared.push(Inherited { listener, address, socket });
            }
        }
        Ok(shared)
    }

    /// Name and address of each listener; a port 0 of the policy is the one that the system chose.
    pub fn addresses(&self) -> &[(Arc<str>, Address)] {
        &self.addresses
    }

    /// The sockets, one set for each thread.
    pub fn into_threads(self) -> Vec<ThreadListeners> {
        self.threads
    }

    fn add(
        &mut self,
        listener: &Listener,
        address: &Address,
        inherited: Vec<OwnedFd>,
    ) -> Result<(), BindError> {
        let bound = match address {
            Address::Tcp(tcp) => Address::Tcp(self.add_tcp(listener, *tcp, inherited)?),
            Address::Unix(path) => {
                let socket = match inherited.into_iter().next() {
                    Some(inherited) => UnixListener::from(inherited),
                    None => unix::bind(&listener.name, path, listener.mode)?,
                };
                let system = |source| system(&listener.name, address, source);
                socket.set_nonblocking(true).map_err(system)?;
                for thread in &mut self.threads {
                    let opening = Opening::Unix(socket.try_clone().map_err(system)?);
                    thread.0.push(Bound::new(listener, address, opening));
                }
                address.clone()
            }
        };
        self.addresses.push((Arc::clone(&listener.name), bound));
        Ok(())
    }

    /// Where it is bound: port 0 is any.
    fn add_tcp(
        &mut self,
        listener: &Listener,
        address: SocketAddr,
        inherited: Vec<OwnedFd>,
    ) -> Result<SocketAddr, BindError> {
        let refused = |source| explain(&listener.name, address, source);
        if inherited.is_empty() && address.port() != 0 {
            drop(open(address, Sharing::Alone).map_err(refused)?);
        }
        let mut bound = address;
        let mut sockets = Vec::new();
        for socket in inherited {
            let socket = Socket::from(socket);
            prepare(&socket).map_err(refused)?;
            sockets.push(TcpListener::from(socket));
        }
        if let Some(first) = sockets.first() {
            bound = first.local_addr().map_err(refused)?;
        }
        while sockets.len() < self.threads.len() {
            let socket = open(bound, Sharing::Threads).map_err(refused)?;
            bound = socket.local_addr().map_err(refused)?;
            sockets.push(socket);
        }
        let places = (0..self.threads.len()).cycle();
        for (place, socket) in places.zip(sockets) {
            if let Some(thread) = self.threads.get_mut(place) {
                let opening = Opening::Tcp(socket);
                thread.0.push(Bound::new(listener, &Address::Tcp(address), opening));
            }
        }
        Ok(bound)
    }
}

impl Bound {
    fn new(listener: &Listener, address: &Address, opening: Opening) -> Self {
        Self {
            name: Arc::clone(&listener.name),
            serves: listener.serves.clone(),
            address: address.clone(),
            opening,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Fails when anybody else listens there.
    Alone,
    Threads,
}

fn open(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a former agent that are still closing must not stand in the way.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Threads)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What holds for the socket and, on Linux, for every connection that is accepted on it.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)
}

fn explain(listener: &Arc<str>, address: SocketAddr, source: io::Error) -> BindError {
    let listener = Arc::clone(listener);
    let kind = source.kind();
    if kind == io::ErrorKind::AddrInUse {
        BindError::InUse { listener, address, holder: Holder::of(address) }
    } else if kind == io::ErrorKind::AddrNotAvailable {
        BindError::NotOurs { listener, address }
    } else if kind == io::ErrorKind::PermissionDenied {
        BindError::NotPermitted { listener, address }
    } else {
        system(&listener, &Address::Tcp(address), source)
    }
}

pub(crate) fn system(listener: &Arc<str>, address: &Address, source: io::Error) -> BindError {
    BindError::System { listener: Arc::clone(listener), address: address.clone(), source }
}
