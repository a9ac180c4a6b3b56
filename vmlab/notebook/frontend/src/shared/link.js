// The view's side of the conversation with the kernel.
//
// Messages are numbered, since the server may deliver them out of order. A view that has just been
// drawn says hello and is sent what it missed. A kernel that does not know us any more answers "who":
// then we begin anew under another name.

const ALIVE_EVERY = 60_000; // the kernel forgets a page after ten minutes of silence
const ANSWER = 6_000; // milliseconds that a kernel has to answer hello; a saved page has none

export class Link {
  // onDead(): the kernel does not know this view any more; onAnswer(yes): whether it has answered hello
  constructor(model, element, onDead, onAnswer) {
    this.model = model;
    this.element = element;
    this.onDead = onDead;
    this.onAnswer = onAnswer;
    this.dead = false;
    this.handlers = new Map();
    this.visible = false;
    this.receive = this.receive.bind(this);
    this.look = this.look.bind(this);
    this.leave = this.leave.bind(this);
    model.on("msg:custom", this.receive);
    for (const event of ["comm_live_update", "comm:close", "destroy"]) {
      model.on(event, (this.closed ??= () => this.die()));
    }
    this.observer = new IntersectionObserver((entries) => {
      this.onScreen = entries[entries.length - 1].isIntersecting;
      this.look();
    });
    document.addEventListener("visibilitychange", this.look);
    window.addEventListener("pagehide", this.leave);
    this.timer = setInterval(() => this.visible && this.send("alive"), ALIVE_EVERY);
  }

  begin() {
    this.name = Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");
    this.number = 0;
    this.visible = false;
    this.send("hello");
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.dead || this.onAnswer(false), ANSWER);
    this.observer.observe(this.element);
    this.look();
    for (const handler of this.handlers.get("begin") ?? []) handler();
  }

  on(kind, handler) {
    this.handlers.set(kind, [...(this.handlers.get(kind) ?? []), handler]);
  }

  send(kind, fields = {}) {
    if (this.dead) return;
    try {
      this.model.send({ kind, from: this.name, n: this.number++, ...fields });
    } catch {
      this.die();
    }
  }

  receive(message, buffers) {
    if (!message || (message.to && message.to !== this.name)) return;
    if (message.kind === "who") return this.begin();
    if (message.kind === "welcome") {
      clearTimeout(this.silence);
      this.onAnswer(true);
    }
    for (const handler of this.handlers.get(message.kind) ?? []) handler(message, buffers);
  }

  look() {
    const now = Boolean(this.onScreen) && document.visibilityState === "visible";
    if (now === this.visible) return;
    this.visible = now;
    this.send("seen", { on: now });
    if (now) this.onSeen?.();
  }

  leave() {
    this.visible = false;
    this.send("seen", { on: false });
  }

  die() {
    if (this.dead) return;
    this.dead = true;
    this.onDead();
  }

  end() {
    this.send("bye");
    this.dead = true;
    clearInterval(this.timer);
    clearTimeout(this.silence);
    this.observer.disconnect();
    document.removeEventListener("visibilitychange", this.look);
    window.removeEventListener("pagehide", this.leave);
    this.model.off("msg:custom", this.receive);
    for (const event of ["comm_live_update", "comm:close", "destroy"]) this.model.off(event, this.closed);
  }
}
