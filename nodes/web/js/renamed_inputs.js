// Opens workflows that were saved before inputs were renamed, by the table that the server uses too. lib/renamed_inputs.py
// explains it.

import { app } from "../../../scripts/app.js";

const table = fetch(new URL("../renamed_inputs.json", import.meta.url)).then((answer) => answer.json());

function rename(node, renamed) {
  for (const slot of node.inputs ?? []) {
    const name = renamed[slot.name]?.name;
    if (!name) continue;
    slot.name = name;
    if (slot.widget) slot.widget.name = name;
    delete slot.localized_name;
  }
  for (const { thousandths, widget } of Object.values(renamed)) {
    if (thousandths && node.widgets_values?.[widget] > 1) node.widgets_values[widget] /= 1000;
  }
}

app.registerExtension({
  name: "PersonalRestore.RenamedInputs",

  async beforeConfigureGraph(workflow) {
    const known = await table;
    const graphs = [workflow, ...(workflow.definitions?.subgraphs ?? [])];
    for (const node of graphs.flatMap((graph) => graph.nodes ?? [])) if (known[node.type]) rename(node, known[node.type]);
  },
});
