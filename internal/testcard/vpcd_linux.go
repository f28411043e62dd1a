package testcard

import (
	"net"
	"syscall"
)

// acknowledge has the kernel acknowledge at once what has arrived. vpcd sends each
// message in two pieces, and the second waits for the first one's acknowledgement,
// which would wait 40 ms for company (RFC 1122 4.2.3.2; tcp(7), TCP_QUICKACK). It only
// saves time, so that its failure is none.
func acknowledge(conn net.Conn) {
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
}
