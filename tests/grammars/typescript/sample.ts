// A module that uses most of what the language has.
import { readFile } from "node:fs/promises";
import type { Stats } from "node:fs";

export interface Shape {
  readonly kind: "circle" | "square";
  size?: number;
  area(scale: number): number;
}

type Named<T> = T & { name: string };

enum Color {
  Red = "r",
  Blue = "b",
}

const pattern = /[/"(]+\/x/g;
const ratio = 10 / 2 / 1;
const table: Record<string, number[]> = { a: [1, 2], "b-c": [], [`d${ratio}`]: [3] };

export abstract class Base<T extends object> implements Shape {
  static count = 0;
  readonly kind = "circle";
  #hidden: Map<string, T> = new Map();

  constructor(private readonly items: T[], public size = 1) {
    super_(`it's ${items.map((item) => `<${String(item)}>`).join(", ")} done`);
  }

  area(scale: number): number {
    if (scale > 1) {
      return this.size * scale;
    } else if (scale === 0) {
      throw new Error('none (');
    }
    for (const item of this.items) {
      if (!item) continue;
    }
    switch (this.kind) {
      case "circle":
        return 1;
      default:
        return 0;
    }
  }

  get total(): number {
    return this.#hidden.size;
  }
}

function super_(text: string): void {
  /* a comment with ( and ` */
  console.log(text);
}

export const load = async (path: string): Promise<Named<Stats> | undefined> => {
  try {
    const text = await readFile(path, "utf8");
    return text.length ? JSON.parse(text) as Named<Stats> : undefined;
  } catch {
    return undefined;
  }
};

const total = Object.values(table)
  .flat()
  .filter((value) => value > 1)
  .reduce((sum, value) => sum + value, 0);

do {
  Base.count += total;
} while (Base.count < 0 && pattern.test(Color.Red));
