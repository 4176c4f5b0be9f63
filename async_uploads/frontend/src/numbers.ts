/** Numbers as people read them, in the language of the page. Sizes count in 1024 like Django's `filesizeformat`. */

const SIZES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

export class Numbers {
  readonly #lang: string | undefined;

  /** `lang` is a BCP 47 tag; one that `Intl` refuses (Django's `zh_hans`, say) means the browser's language. */
  constructor(lang: string) {
    try {
      this.#lang = Intl.getCanonicalLocales(lang.replace("_", "-"))[0];
    } catch {
      this.#lang = undefined;
    }
  }

  /** Bytes as "1.2 MB". */
  size(bytes: number): string {
    const step = bytes < 1 ? 0 : Math.min(Math.floor(Math.log(bytes) / Math.log(1024)), SIZES.length - 1);
    const value = bytes / 1024 ** step;
    return this.#format(value, {
      style: "unit",
      unit: SIZES[step] as string,
      unitDisplay: step ? "short" : "long",
      maximumFractionDigits: step && value < 100 ? 1 : 0,
    });
  }

  /** A share between 0 and 1 as "45%", rounded down so that 100% means finished. */
  percent(share: number): string {
    return this.#format(Math.floor(share * 100) / 100, { style: "percent" });
  }

  /** Seconds as "12 sec", "3 min" or "1.5 hr". */
  duration(seconds: number): string {
    const [value, unit] =
      seconds < 60 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
    return this.#format(Math.max(value as number, 1), {
      style: "unit",
      unit: unit as string,
      unitDisplay: "short",
      maximumFractionDigits: unit === "hour" ? 1 : 0,
    });
  }

  count(value: number): string {
    return this.#format(value, {});
  }

  #format(value: number, options: Intl.NumberFormatOptions): string {
    return new Intl.NumberFormat(this.#lang, options).format(value);
  }
}
