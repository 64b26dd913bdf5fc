"""Topics, readers and the broker behind them."""

from .broker import Broker
from .encoding import Encoding
from .hub import Hub
from .memory import MemoryBroker
from .reasons import EndReason
from .sqlite import SqliteBroker
from .subscription import Outlet, SubscribeOptions, Subscription
from .topic import check_topic

__all__ = [
    "Broker",
    "Encoding",
    "EndReason",
    "Hub",
    "MemoryBroker",
    "Outlet",
    "SqliteBroker",
    "SubscribeOptions",
    "Subscription",
    "check_topic",
]
