// Click a face in Match Faces to People to choose the person, whether to restore the face, and how strongly.
// The choices are text in the node's widgets `override` and `strengths`: they are saved with the workflow, and in
// API mode the same texts refer to faces by number. Where a subgraph shows them on its own node, they are written there.

import { app } from "../../../scripts/app.js";

const TEXTS = {
  en: {
    hint: "Click a face",
    who: "Who is it?",
    matching: "as recognized",
    nobody: "nobody I know",
    restore: "Restore",
    strength: "Strength",
    again: "Run again to apply",
    several: "This subgraph is used several times, or inside another one: type into its override and strengths",
  },
  zh: {
    hint: "点击人脸",
    who: "这是谁？",
    matching: "按识别结果",
    nobody: "不认识的人",
    restore: "修复",
    strength: "强度",
    again: "再次运行以应用",
    several: "此子图被多次使用，或位于另一个子图中：请在其节点的 override 和 strengths 中填写",
  },
};

function say(text) {
  const locale = app.extensionManager.setting.get("Comfy.Locale") ?? "en";
  return (locale.startsWith("zh") ? TEXTS.zh : TEXTS.en)[text];
}

/** "0=Anna, 2=nobody" as a Map from number to text. Names may contain commas, so only ", <number>=" separates. */
export function parse(text) {
  const entries = text.split(/[,;\n](?=\s*\d+\s*=|\s*$)/).map((part) => part.match(/^\s*(\d+)\s*=\s*(.*?)\s*$/s));
  return new Map(entries.filter(Boolean).map(([, number, value]) => [Number(number), value]));
}

export function format(entries) {
  return [...entries].sort(([a], [b]) => a - b).map(([number, value]) => `${number}=${value}`).join(", ");
}

/** The widget whose text counts: the node's own, or that of the subgraph's node which shows it. None if several nodes show the
 * subgraph, or one inside another subgraph does, since then nothing here says which is meant. */
function widgetOf(node, name) {
  const index = node.inputs?.findIndex((slot) => slot.widget?.name === name) ?? -1;
  const link = index < 0 ? null : node.getInputLink(index);
  if (!link?.originIsIoNode) return node.widgets.find((one) => one.name === name);
  const { rootGraph } = node.graph;
  const graphs = [rootGraph, ...rootGraph.subgraphs.values()];
  const [host, ...others] = graphs.flatMap((graph) => graph.nodes).filter((one) => one.subgraph === node.graph);
  if (others.length || host.graph !== rootGraph) return undefined;
  return host.widgets.find((one) => one.name === host.inputs[link.origin_slot].name);
}

/** One entry of a widget's text; undefined as value takes it out. */
function write(node, name, number, value) {
  const widget = widgetOf(node, name);
  const entries = parse(widget.value);
  if (value === undefined) entries.delete(number);
  else entries.set(number, value);
  widget.value = format(entries);
  widget.callback?.(widget.value);
  node.graph?.setDirtyCanvas(true, true);
  app.extensionManager.workflow?.activeWorkflow?.changeTracker?.captureCanvasState?.();
}

function read(node, name, number) {
  return parse(widgetOf(node, name)?.value ?? "").get(number);
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The form for one face; `changed` is called after every choice. */
function form(node, face, people, changed) {
  const decided = read(node, "override", face.number);
  const who = element("select", { className: "pr-who" });
  who.append(new Option(say("matching"), ""), ...people.map((name) => new Option(name)), new Option(say("nobody"), "nobody"));
  who.value = [...who.options].find((one) => one.value.toLowerCase() === (decided ?? "").toLowerCase())?.value ?? "";
  const amount = Number(read(node, "strengths", face.number) ?? 1);
  const restore = element("input", { type: "checkbox", className: "pr-restore", checked: amount > 0 });
  const strength = element("input", { type: "range", className: "pr-strength", min: 0.05, max: 1, step: 0.05 });
  strength.value = amount || 1;
  strength.disabled = amount === 0;
  const shown = element("output", { value: strength.value });

  who.onchange = () => {
    write(node, "override", face.number, who.value || undefined);
    changed();
  };
  restore.onchange = strength.oninput = () => {
    const chosen = restore.checked ? Number(strength.value) : 0;
    strength.disabled = !restore.checked;
    shown.value = strength.value;
    write(node, "strengths", face.number, chosen === 1 ? undefined : String(chosen));
    changed();
  };
  return element(
    "div",
    { className: "pr-form" },
    element("b", { textContent: face.label }),
    element("label", {}, `${say("who")} `, who),
    element("label", {}, restore, ` ${say("restore")}`),
    element("label", {}, `${say("strength")} `, strength, shown),
    element("small", { textContent: say("again") }),
  );
}

/** Fills the panel with what the node has shown: one picture per photograph, a button on every face. */
function fill(panel, node, pictures, people) {
  const writable = ["override", "strengths"].every((name) => widgetOf(node, name));
  const below = element("div", { className: "pr-below", textContent: say(writable ? "hint" : "several") });

  const mark = (button, face) => {
    const name = read(node, "override", face.number);
    const amount = Number(read(node, "strengths", face.number) ?? 1);
    button.textContent = name === undefined ? face.label : `${face.number} ${name === "nobody" ? "?" : name}`;
    button.dataset.known = name === undefined ? face.known : name !== "nobody";
    button.dataset.left = amount === 0;
  };

  const faceButton = (face) => {
    const [left, top, width, height] = face.box.map((side) => `${100 * side}%`);
    const button = element("button", { type: "button", className: "pr-face" });
    button.dataset.number = face.number;
    Object.assign(button.style, { left, top, width, height });
    button.disabled = !writable;
    button.onclick = () => {
      panel.querySelectorAll(".pr-face").forEach((one) => one.classList.toggle("pr-chosen", one === button));
      below.replaceChildren(form(node, face, people, () => mark(button, face)));
    };
    mark(button, face);
    return button;
  };

  const views = pictures.map(({ file, faces }) => {
    const image = element("img", { src: `${app.api.api_base}/view?${new URLSearchParams(file)}`, draggable: false });
    return element("div", { className: "pr-picture" }, image, ...faces.map(faceButton));
  });
  panel.replaceChildren(...views, below);
}

const STYLE = `
.pr-picker { display: flex; flex-direction: column; gap: 4px; overflow: auto; font: 12px sans-serif; color: var(--input-text, #ddd); }
.pr-picture { position: relative; width: fit-content; max-width: 100%; margin: 0 auto; }
.pr-picture img { display: block; max-width: 100%; }
.pr-face { position: absolute; padding: 0; background: none; border: 2px solid #d7962c; color: #fff; font: 11px sans-serif;
  text-shadow: 0 0 2px #000, 0 0 2px #000; cursor: pointer; white-space: nowrap; display: flex; align-items: flex-end; }
.pr-face[data-known="true"] { border-color: #3caa5a; }
.pr-face[data-left="true"] { border-style: dashed; opacity: 0.7; }
.pr-face.pr-chosen { box-shadow: 0 0 0 2px #fff; }
.pr-below { padding: 4px; text-align: center; }
.pr-form { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; text-align: left; }
.pr-form select { background: var(--comfy-input-bg, #222); color: inherit; border: 1px solid var(--border-color, #555); }
.pr-form small { opacity: 0.7; }
`;

function panelOf(node) {
  const there = node.widgets.find((one) => one.name === "face_picker");
  if (there) return there.element;
  const panel = element("div", { className: "pr-picker" });
  // A press on the panel is meant for it: neither for the canvas below nor for dragging the node.
  panel.addEventListener("pointerdown", (event) => event.stopPropagation());
  const widget = node.addDOMWidget("face_picker", "pr_face_picker", panel, {
    serialize: false,
    getMinHeight: () => 420,
  });
  widget.serialize = false;
  node.setSize([Math.max(node.size[0], 300), Math.max(node.size[1], node.computeSize()[1])]);
  return panel;
}

app.registerExtension({
  name: "PersonalRestore.FacePicker",
  init() {
    document.head.append(element("style", { textContent: STYLE }));
  },
  nodeCreated(node) {
    if (node.comfyClass !== "PR_MatchFaces") return;
    const before = node.onExecuted;
    node.onExecuted = function (shown) {
      before?.apply(this, arguments);
      if (shown?.pr_pictures) fill(panelOf(this), this, shown.pr_pictures, shown.pr_people);
    };
  },
});
