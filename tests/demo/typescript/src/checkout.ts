import { Cart } from "./cart.js";

/** The price of a cart, less a discount. */
export function discount(cart: Cart, percent: number): number {
  return (cart.total() * (100 - percent)) / 100;
}

/** What the customer takes home. */
export function receipt(cart: Cart, customer: string, percent: number): string {
  const lines = cart.items.map((item) => `${item.name}: ${item.price}`);
  const price = discount(cart, customer);
  lines.push(`${customer} pays ${price}`);
  return lines.join("\n");
}
