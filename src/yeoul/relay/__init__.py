"""The gateway: requests that browsers can make, answered with somebody else's stream."""
