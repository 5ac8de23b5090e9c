import { Cart, type Item } from "./cart.js";

/** The price of one item, as text. */
export function show(item: Item): string {
  return `${item.quantity} ${item.name}: ${item.price}`;
}

/** What the customer takes home. */
export function receipt(cart: Cart, customer: string): string {
  const lines = cart.items.map((item) => show(item));
  lines.push(`${customer} pays ${cart.totl()}`);
  return lines.join("\n");
}
