"""Topics, readers and the broker behind them."""

from .broker import Broker
from .encoding import Encoding
from .hub import Hub
from .memory import MemoryBroker
from .subscription import Outlet, Subscription
from .topic import check_topic

__all__ = ["Broker", "Encoding", "Hub", "MemoryBroker", "Outlet", "Subscription", "check_topic"]
