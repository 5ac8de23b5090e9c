/** So many pieces of one thing. */
export interface Item {
  name: string;
  price: number;
  quantity: number;
}

/** The items in a cart. */
export class Cart {
  readonly items: Item[] = [];

  /** Puts an item into the cart. */
  add(item: Item): void {
    this.items.push(item);
  }

  /** The price of all items. */
  total(): number {
    return this.items.reduce((sum, item) => sum + item.price * item.quantity, 0);
  }
}
