//! A port that stays ours before, between and after the api-server's lives.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::error::{Error, Result};

/// Binds a free port without listening on it. The kernel gives a port that no other socket holds, shared or not.
pub(super) fn reserve(address: IpAddr) -> Result<(OwnedFd, u16)> {
    let held = || -> rustix::io::Result<(OwnedFd, u16)> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::new(address, 0))?;
        let bound: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
        Ok((socket, bound.port()))
    };
    held().map_err(|errno| Error::file("reserve a port on", address.to_string())(errno.into()))
}
#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_reserved_port_is_reserved_for_programs_that_share_it() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (_socket, port) = reserve(loopback).unwrap();
        assert!(
            std::net::TcpListener::bind((loopback, port)).is_err(),
            "a foreign program got the reserved port"
        );
        let (_other, other_port) = reserve(loopback).unwrap();
        assert_ne!(port, other_port);
    }
}
