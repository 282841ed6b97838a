// Where the data comes from: a server, or a notebook's kernel. Both answer the same requests.

import { blocksOf, decode } from "./cosine.js";

// Asks the server that the page came from; the browser keeps what is sent.
export class ServerSource {
  constructor(base) {
    this.base = base;
  }

  async get(resource, parameters, signal) {
    const response = await fetch(`${this.base}get/${resource}?${new URLSearchParams(parameters)}`, { signal });
    if (!response.ok) {
      const line = await response.json().then((body) => body.error, () => response.statusText);
      throw new Error(line);
    }
    return {
      type: response.headers.get("content-type") ?? "",
      labels: {
        dtype: response.headers.get("x-kvtool-dtype"),
        shape: response.headers.get("x-kvtool-shape"),
      },
      body: await response.arrayBuffer(),
    };
  }
}

// Asks the kernel through the widget's messages, which carry bytes as they are.
export class WidgetSource {
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.count = 0;
    model.on("msg:custom", (message, buffers) => this.take(message, buffers));
  }

  get(resource, parameters) {
    this.count += 1;
    const id = this.count;
    const plain = Object.fromEntries(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
    this.model.send({ id, resource, parameters: plain });
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  take(message, buffers) {
    const promise = this.waiting.get(message.id);
    if (!promise) return;
    this.waiting.delete(message.id);
    if (message.error) {
      promise.reject(new Error(message.error));
      return;
    }
    const view = buffers[0];
    const body = view instanceof ArrayBuffer ? view : view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    promise.resolve({ type: message.type, labels: message.labels, body });
  }
}

const MOST_BYTES = 768 * 2 ** 20;

// What was asked before, so that nothing is decoded twice; the vectors used last stay.
export class Library {
  constructor(source) {
    this.source = source;
    this.records = new Map();
    this.layers = new Map();
    this.bytes = 0;
  }

  record(resource, parameters) {
    return this.remembered(this.records, resource, parameters, (reply) => {
      return JSON.parse(new TextDecoder().decode(reply.body));
    });
  }

  // The address of a picture in memory, or why there is none. signal: ends a request that nobody
  // waits for any more, so that the next one need not wait for it.
  picture(resource, parameters, signal) {
    return this.remembered(this.records, resource, parameters, (reply) => {
      if (reply.type.startsWith("application/json")) {
        return { url: null, note: JSON.parse(new TextDecoder().decode(reply.body)).note };
      }
      return { url: URL.createObjectURL(new Blob([reply.body], { type: reply.type })), note: null };
    }, signal);
  }

  remembered(memory, resource, parameters, read, signal) {
    const key = `${resource}?${new URLSearchParams(parameters)}`;
    if (!memory.has(key)) {
      const promise = this.source.get(resource, parameters, signal).then(read);
      // What failed is asked again the next time.
      promise.catch(() => memory.delete(key));
      memory.set(key, promise);
    }
    return memory.get(key);
  }

  // The vectors of one head of an image; from the whole layer where that is there already.
  async block(where, kind, layer, head) {
    const whole = this.held(this.keyOf(where, kind, layer));
    if (whole) return (await whole)[head];
    const key = this.keyOf(where, kind, layer, head);
    const read = () => this.vectors(where, { kind, layer, kv_head: head }).then(([block]) => block);
    return this.held(key) ?? this.hold(key, read());
  }

  // All heads of some layers of one shape, a promise each: one request for those that are not there.
  layersOf(where, kind, layers) {
    const absent = layers.filter((layer) => !this.layers.has(this.keyOf(where, kind, layer)));
    const request = absent.length ? this.vectors(where, { kind, layer: absent.join(",") }) : null;
    return layers.map((layer) => {
      const key = this.keyOf(where, kind, layer);
      const at = absent.indexOf(layer);
      if (at === -1) return this.held(key);
      const cut = (blocks) => {
        const heads = blocks.length / absent.length;
        return blocks.slice(at * heads, (at + 1) * heads);
      };
      return this.hold(key, request.then(cut));
    });
  }

  holds(where, kind, layers) {
    return layers.every((layer) => this.layers.has(this.keyOf(where, kind, layer)));
  }

  // The maps of one token in all heads of some layers, an array each, layer after layer.
  async maps(where, kind, layers, token) {
    const reply = await this.source.get("maps", { ...where, kind, layer: layers.join(","), token });
    const [heads, cells] = reply.labels.shape.split(",").map(Number);
    const values = decode(reply.body, reply.labels.dtype);
    return Array.from({ length: heads }, (_, head) => values.subarray(head * cells, (head + 1) * cells));
  }

  keyOf(where, kind, layer, head = "all") {
    return [where.store, where.run, where.image, where.version, kind, layer, head].join("\n");
  }

  async vectors(where, parameters) {
    const reply = await this.source.get("block", { ...where, ...parameters });
    const [tokens, dim] = reply.labels.shape.split(",").slice(-2).map(Number);
    return blocksOf(decode(reply.body, reply.labels.dtype), tokens, dim);
  }

  // What is used stands last, and what stands first is forgotten first.
  held(key) {
    const promise = this.layers.get(key);
    if (promise) {
      this.layers.delete(key);
      this.layers.set(key, promise);
    }
    return promise;
  }

  hold(key, promise) {
    this.layers.set(key, promise);
    promise.then((blocks) => {
      this.bytes += sizeOf(blocks);
      this.forget(key);
    }, () => this.layers.delete(key));
    return promise;
  }

  forget(latest) {
    for (const [key, promise] of this.layers) {
      if (this.bytes <= MOST_BYTES || key === latest) return;
      this.layers.delete(key);
      promise.then((blocks) => { this.bytes -= sizeOf(blocks); }, () => {});
    }
  }
}

function sizeOf(blocks) {
  return [blocks].flat().reduce((sum, block) => sum + block.values.byteLength, 0);
}
