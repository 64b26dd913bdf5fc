"""The gateway: relays the streams of other servers to clients that can only send simple requests."""
