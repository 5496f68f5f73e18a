/**
 * Reads the Erlang terms of RabbitMQ's advanced.config, as far as needed to find a place in them: file:consult's
 * language (Erlang reference manual, "Terms" and "Comments") without sigils and triple-quoted strings, which only
 * OTP 27 and later know. Positions are indexes into the text, so that an edit leaves every other character alone.
 */

/** A term and where it stands: text.slice(start, end). */
export interface Term {
  type: 'list' | 'tuple' | 'atom' | 'other';
  start: number;
  end: number;
  /** An atom's name without quotes; empty for every other type. */
  name: string;
  /** Of a list or a tuple; empty for every other type. */
  items: Term[];
  /** A list written [a | Tail]. */
  improper: boolean;
}

/** The text is not a sequence of terms. `line` and `column` count from 1. */
export class ErlangError extends Error {
  override readonly name = 'ErlangError';
  readonly line: number;
  readonly column: number;

  constructor(text: string, at: number, what: string) {
    const before = text.slice(0, at).split('\n');
    const line = before.length;
    const column = before.at(-1)!.length + 1;
    super(`line ${line}, column ${column}: ${what}`);
    this.line = line;
    this.column = column;
  }
}

/** Deeper than any configuration, and far from the stack's end. */
const MAX_DEPTH = 200;

const BLANK = /(?:[\s\0]|%[^\n]*)*/y;
const ATOM = /[a-zß-öø-ÿ][\w@À-ÖØ-öø-ÿß]*/y;
const QUOTED_ATOM = /'((?:[^'\\]|\\[^])*)'/y;
const STRING = /"(?:[^"\\]|\\[^])*"/y;
const NUMBER = /[+-]?\s*\d+(?:_\d+)*(?:#[\da-zA-Z]+(?:_[\da-zA-Z]+)*|\.\d+(?:_\d+)*(?:[eE][+-]?\d+)?)?/y;
const CHARACTER = /\$(?:\\(?:x\{[\da-fA-F]+\}|x[\da-fA-F]{2}|\^[^]|[0-7]{1,3}|[^])|[^\\])/uy;
const SEGMENT_SUFFIX = /(?::\d+)?(?:\/[a-z]\w*(?::\d+)?(?:-[a-z]\w*(?::\d+)?)*)?/y;
const FUN_REFERENCE = /\s+(?:\w+|'[^']+'):(?:\w+|'[^']+')\/\d+/y;
const FULL_STOP = /\.(?=\s|%|$)/y;

class Reader {
  private at = 0;
  private depth = 0;
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  terms(): Term[] {
    const terms: Term[] = [];
    this.blank();
    while (this.at < this.text.length) {
      terms.push(this.term());
      this.blank();
      if (this.take(FULL_STOP) === undefined) this.fail('expected a full stop after the term');
      this.blank();
    }
    return terms;
  }

  private fail(what: string): never {
    throw new ErlangError(this.text, this.at, this.at < this.text.length ? what : `${what}, found the end`);
  }

  /** Moves past `pattern` when it matches here. */
  private take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) return undefined;
    this.at = pattern.lastIndex;
    return found[0];
  }

  private blank(): void {
    this.take(BLANK);
  }

  private sees(symbol: string): boolean {
    return this.text.startsWith(symbol, this.at);
  }

  /** Moves past `symbol` and the blanks after it, when it is here. */
  private symbol(symbol: string): boolean {
    if (!this.sees(symbol)) return false;
    this.at += symbol.length;
    this.blank();
    return true;
  }

  private term(): Term {
    if (++this.depth > MAX_DEPTH) this.fail(`more than ${MAX_DEPTH} levels of nesting`);
    const term: Term = { type: 'other', start: this.at, end: 0, name: '', items: [], improper: false };
    if (this.symbol('[')) this.list(term);
    else if (this.symbol('{')) this.sequence(term, 'tuple', '}');
    else if (this.sees('#{')) this.map();
    else if (this.symbol('<<')) this.binary();
    else this.scalar(term);
    term.end = this.at;
    this.depth--;
    return term;
  }

  private sequence(term: Term, type: 'list' | 'tuple', close: string): void {
    term.type = type;
    if (!this.sees(close)) {
      do {
        term.items.push(this.term());
        this.blank();
      } while (this.symbol(','));
      if (type === 'list' && this.symbol('|')) {
        term.improper = true;
        this.term();
        this.blank();
      }
    }
    this.close(close);
  }

  private list(term: Term): void {
    this.sequence(term, 'list', ']');
  }

  private close(close: string): void {
    if (!this.sees(close)) this.fail(`expected "," or "${close}"`);
    this.at += close.length;
  }

  private map(): void {
    this.at += 2;
    this.blank();
    if (!this.sees('}')) {
      do {
        this.term();
        this.blank();
        if (!this.symbol('=>')) this.fail('expected "=>"');
        this.term();
        this.blank();
      } while (this.symbol(','));
    }
    this.close('}');
  }

  private binary(): void {
    if (!this.sees('>>')) {
      do {
        this.term();
        this.take(SEGMENT_SUFFIX);
        this.blank();
      } while (this.symbol(','));
    }
    this.close('>>');
  }

  private scalar(term: Term): void {
    if (this.sees('"""'))
      this.fail('triple-quoted strings are not supported, for RabbitMQ 3.x does not know them');
    const atom = this.take(ATOM) ?? this.take(QUOTED_ATOM)?.slice(1, -1);
    if (atom === 'fun' && this.take(FUN_REFERENCE) !== undefined) return;
    if (atom !== undefined) {
      term.type = 'atom';
      term.name = atom;
      return;
    }
    if (this.take(STRING) !== undefined) {
      this.moreStrings();
      return;
    }
    if (this.take(NUMBER) ?? this.take(CHARACTER)) return;
    const found = this.text.slice(this.at, this.at + 1);
    this.fail(found === '"' || found === "'" ? `the ${found} is never closed` : 'expected a term');
  }

  /** "a" "b" is one string. */
  private moreStrings(): void {
    for (;;) {
      const end = this.at;
      this.blank();
      if (this.take(STRING) !== undefined) continue;
      this.at = end;
      return;
    }
  }
}

/** The terms of `text`, each ended by a full stop, as file:consult returns them. Throws ErlangError. */
export function parseTerms(text: string): Term[] {
  return new Reader(text).terms();
}

/**
 * The value of `key` in a property list: the last {key, Value} counts, as it does for RabbitMQ's advanced.config
 * (checked on 3.10, 4.0 and 4.3). Undefined when there is none.
 */
export function property(list: Term, key: string): Term | undefined {
  return list.items.findLast(
    (item) =>
      item.type === 'tuple' &&
      item.items.length === 2 &&
      item.items[0]!.type === 'atom' &&
      item.items[0]!.name === key,
  )?.items[1];
}
