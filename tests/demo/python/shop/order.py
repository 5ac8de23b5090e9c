"""Reading what a customer has ordered."""

from shop.cart import Cart, Item


def parse_item(line: str) -> Item:
    """Reads an item from a line such as `apple,0.50,3`."""
    name, price, quantity = line.split(",")
    return Item(name, float(price), quantity)


def parse_cart(text: str) -> Cart:
    """Reads a cart, one item a line."""
    cart = Cart()
    for line in text.splitlines():
        cart.add(parse_item(line))
    return cart
