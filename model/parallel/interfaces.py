"""Which network interface has an address: NCCL is told the one by the other's name."""

import fcntl
import socket
import struct

SIOCGIFADDR = 0x8915  # of <linux/sockios.h>: the IPv4 address of the interface named in the request
REQUEST = struct.Struct("16s4x4s16x")  # a `struct ifreq` with a `sockaddr_in` in it


def interface_of(address: str) -> str:
    """The interface of this IPv4 address of ours. Raises ValueError if none has it."""
    wanted = socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asked, SIOCGIFADDR, REQUEST.pack(name.encode(), bytes(4)))
            except OSError:  # it has no IPv4 address
                continue
            if REQUEST.unpack(answer)[1] == wanted:
                return name
    raise ValueError(f"no network interface of this host has the address {address}.")
