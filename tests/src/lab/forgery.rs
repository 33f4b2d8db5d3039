//! Packets that bear somebody else's address.
//!
//! The forger gives itself the address, as any host can: what is sent from it arrives, and what is
//! answered goes to the address's owner. So a forger sends packets and never completes a handshake.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use super::{Namespace, Ping, knock};

/// The interface of a host at the far end of a cable.
const LINK: &str = "eth0";

/// Somebody who pretends to be somebody else. The address is given back when dropped.
#[derive(Debug)]
pub struct Forgery {
    forger: Namespace,
    source: IpAddr,
}

impl Forgery {
    /// Lets `forger` send with `source`.
    pub fn begin(forger: &Namespace, source: IpAddr) -> Result<Self> {
        forger.ip(&format!("address add {} dev {LINK} {}", single(source), quick(source)))?;
        Ok(Self { forger: forger.clone(), source })
    }

    /// Opens so many connections as far as a forger can: by their first packet.
    pub fn knock(&self, to: SocketAddr, times: u32) -> Result<()> {
        knock(&self.forger, self.source, to, times).map(drop)
    }

    /// Sends so many datagrams.
    pub fn datagrams(&self, to: SocketAddr, times: u32) -> Result<()> {
        let socket = self.forger.run(|| UdpSocket::bind(SocketAddr::new(self.source, 0)))??;
        for _ in 0..times {
            match socket.send_to(b"not from where it seems", to) {
                Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                    return Err(error).context("forging");
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Echoes with the address as their source.
    pub fn ping(&self, to: IpAddr) -> Result<Ping> {
        Ping::bearing(&self.forger, self.source, to)
    }
}

impl Drop for Forgery {
    fn drop(&mut self) {
        // The host may be gone, and its addresses with it.
        drop(self.forger.ip(&format!("address delete {} dev {LINK}", single(self.source))));
    }
}

fn single(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    }
}

/// An IPv6 address is usable at once when nobody is asked whether it is taken.
const fn quick(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "",
        IpAddr::V6(_) => "nodad",
    }
}
