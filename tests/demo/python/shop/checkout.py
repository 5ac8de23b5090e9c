"""Paying for a cart."""

from shop.cart import Cart


def discount(cart: Cart, percent: int) -> float:
    """The price of a cart, less a discount."""
    return cart.total() * (100 - percent) / 100


def receipt(cart: Cart, customer: str, percent: int) -> str:
    """What the customer takes home."""
    lines = [f"{item.name}: {item.total():.2f}" for item in cart.items]
    price = discount(cart, customer)
    lines.append(f"{customer} pays {price:.2f}")
    return "\n".join(lines)
