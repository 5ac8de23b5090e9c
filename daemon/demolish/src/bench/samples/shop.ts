/** A small shop: items, a cart, and what it costs. */

export interface Item {
  readonly name: string;
  readonly price: number;
  readonly tags: readonly string[];
}

export function discounted(item: Item, percent: number): Item {
  const price = Math.round(item.price * (100 - percent)) / 100;
  return { ...item, price };
}

export class Cart {
  private readonly lines = new Map<string, number>();

  constructor(readonly owner: string) {}

  add(name: string, count = 1): void {
    if (count < 1) {
      throw new RangeError(`count must be positive, not ${count}`);
    }
    this.lines.set(name, (this.lines.get(name) ?? 0) + count);
  }

  remove(name: string): boolean {
    return this.lines.delete(name);
  }

  isEmpty(): boolean {
    return this.lines.size === 0;
  }

  entries(): [string, number][] {
    return [...this.lines.entries()];
  }
}

export class Shop {
  private readonly items = new Map<string, Item>();
  private readonly stock = new Map<string, number>();

  constructor(items: Item[]) {
    for (const item of items) {
      this.items.set(item.name, item);
    }
  }

  total(cart: Cart): number {
    let result = 0;
    for (const [name, count] of cart.entries()) {
      const item = this.items.get(name);
      if (item === undefined) {
        throw new Error(`unknown item ${name}`);
      }
      result += item.price * count;
    }
    return result;
  }

  missing(cart: Cart): string[] {
    const names: string[] = [];
    for (const [name, count] of cart.entries()) {
      if ((this.stock.get(name) ?? 0) < count) {
        names.push(name);
      }
    }
    return names.sort();
  }

  byTag(): Map<string, Item[]> {
    const groups = new Map<string, Item[]>();
    for (const item of this.items.values()) {
      for (const tag of item.tags) {
        const group = groups.get(tag) ?? [];
        group.push(item);
        groups.set(tag, group);
      }
    }
    return groups;
  }
}

export function parse(text: string): Item[] {
  const rows: unknown = JSON.parse(text);
  if (!Array.isArray(rows)) {
    throw new TypeError("expected a list");
  }
  return rows.map((row) => ({ name: String(row.name), price: Number(row.price), tags: [] }));
}

export function report(shop: Shop, carts: Cart[]): string {
  const lines: string[] = [];
  for (const cart of carts) {
    const total = shop.total(cart);
    lines.push(`${cart.owner}: ${total.toFixed(2)}`);
  }
  return lines.join("\n");
}
