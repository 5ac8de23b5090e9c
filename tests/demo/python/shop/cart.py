"""What a customer wants to buy."""

from dataclasses import dataclass, field


@dataclass
class Item:
    """So many pieces of one thing."""

    name: str
    price: float
    quantity: int = 1

    def total(self) -> float:
        """The price of all pieces."""
        return self.price * self.quantity


@dataclass
class Cart:
    """The items in a cart."""

    items: list[Item] = field(default_factory=list)

    def add(self, item: Item) -> None:
        """Puts an item into the cart."""
        self.items.append(item)

    def total(self) -> float:
        """The price of all items."""
        return sum(item.total() for item in self.items)

    def names(self) -> list[str]:
        """The names of all items."""
        return [item.name for item in self.items]
