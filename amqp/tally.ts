import { FRAME_BODY, FRAME_HEADER, FRAME_METHOD } from './constants.ts';

/** Frames that ended, by type. One may be shared by the scanners of many connections. */
export class FrameTally {
  methods = 0;
  headers = 0;
  bodies = 0;
  heartbeats = 0;

  get all(): number {
    return this.methods + this.headers + this.bodies + this.heartbeats;
  }

  /** @param type of a frame; others than the four don't come to their end */
  add(type: number): void {
    if (type === FRAME_BODY) this.bodies++;
    else if (type === FRAME_METHOD) this.methods++;
    else if (type === FRAME_HEADER) this.headers++;
    else this.heartbeats++;
  }

  /** Whole messages: a method and a header each, and so many bodies in all. */
  addMessages(messages: number, bodies: number): void {
    this.methods += messages;
    this.headers += messages;
    this.bodies += bodies;
  }
}
