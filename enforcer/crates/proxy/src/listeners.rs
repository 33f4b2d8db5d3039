//! Where clients are met: every address bound once per thread, before anything is served.
//!
//! The threads share a port by `SO_REUSEPORT`, which would also let a second agent in without a
//! word. So each address is first bound without it: whoever holds it is found and named.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;

use enforcer_policy::{Listener, Policy, Serves};
use socket2::{Domain, Protocol, Socket, Type};

use crate::holder::Holder;

/// Connections that the system may hold ready for one thread.
const BACKLOG: i32 = 4_096;

/// The sockets of all threads.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<(Arc<str>, SocketAddr)>,
    threads: Vec<ThreadListeners>,
}

/// The sockets of one thread.
#[derive(Debug)]
pub struct ThreadListeners(pub(crate) Vec<Bound>);

/// One socket and what happens with its connections.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) name: Arc<str>,
    pub(crate) serves: Serves,
    pub(crate) socket: TcpListener,
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
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Listeners {
    /// Binds every address of `policy` for `threads` threads.
    pub fn bind(policy: &Policy, threads: NonZeroUsize) -> Result<Self, BindError> {
        let mut all = Self { addresses: Vec::new(), threads: Vec::new() };
        all.threads.resize_with(threads.get(), || ThreadListeners(Vec::new()));
        for listener in policy.listeners() {
            for &address in &listener.addresses {
                all.add(listener, address)?;
            }
        }
        Ok(all)
    }

    /// Name and address of each listener; a port 0 of the policy is the one that the system chose.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// The sockets, one set for each thread.
    pub fn into_threads(self) -> Vec<ThreadListeners> {
        self.threads
    }

    fn add(&mut self, listener: &Listener, address: SocketAddr) -> Result<(), BindError> {
        let refused = |source| explain(&listener.name, address, source);
        if address.port() != 0 {
            drop(open(address, Sharing::Alone).map_err(refused)?);
        }
        let mut bound = address;
        for thread in &mut self.threads {
            let socket = open(bound, Sharing::Threads).map_err(refused)?;
            bound = socket.local_addr().map_err(refused)?;
            let (name, serves) = (Arc::clone(&listener.name), listener.serves.clone());
            thread.0.push(Bound { name, serves, socket });
        }
        self.addresses.push((Arc::clone(&listener.name), bound));
        Ok(())
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
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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
        BindError::System { listener, address, source }
    }
}
