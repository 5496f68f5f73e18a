// amqplib's own reading of the AMQP 0-9-1 XML, as another hand's word on how methods look. Its package doesn't export it.
import { createRequire } from 'node:module';

export interface Argument {
  readonly type:
    | 'bit'
    | 'octet'
    | 'short'
    | 'long'
    | 'longlong'
    | 'shortstr'
    | 'longstr'
    | 'table'
    | 'timestamp';
  readonly name: string;
}

export interface MethodInfo {
  /** class * 65536 + method */
  readonly id: number;
  /** Such as `QueueDeclareOk`. */
  readonly name: string;
  readonly args: readonly Argument[];
}

type Fields = Readonly<Record<string, unknown>>;

interface Defs {
  encodeMethod(method: number, channel: number, fields: Fields): Buffer;
  /** A content header frame. */
  encodeProperties(classId: number, channel: number, size: number, fields: Fields): Buffer;
  /** @param args the arguments without their frame */
  decode(method: number, args: Buffer): Record<string, unknown>;
  info(method: number): MethodInfo;
  readonly propertiesInfoBasicProperties: { readonly args: readonly Argument[] };
}

const exported = createRequire(import.meta.url)('../../node_modules/amqplib/lib/defs.js') as Defs &
  Record<string, unknown>;

export const defs: Defs = exported;

/** All methods that it knows. */
export const METHODS: readonly MethodInfo[] = Object.keys(exported)
  .filter((name) => name.startsWith('methodInfo'))
  .map((name) => exported[name] as MethodInfo);
