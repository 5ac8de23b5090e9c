// The probe: VS Code's own language client, started with the command in PROBE_COMMAND (a JSON array), asked what a user
// would ask about PROBE_FILE. What VS Code shows is written to PROBE_OUT, for the test to compare.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const vscode = require('vscode');
const { LanguageClient } = require('vscode-languageclient/node');

const PATIENCE_MS = 30_000;
const LOOK_EVERY_MS = 50;

let client;

exports.activate = async () => {
  const out = process.env.PROBE_OUT;
  if (!out) return;
  try {
    write(out, await probe());
  } catch (error) {
    write(out, { failed: String(error && error.stack ? error.stack : error) });
  }
};

exports.deactivate = () => client?.stop();

/// The whole file at once: whoever waits for it never reads half of it.
function write(out, found) {
  fs.writeFileSync(`${out}.new`, JSON.stringify(found));
  fs.renameSync(`${out}.new`, out);
}

async function probe() {
  const [command, ...args] = JSON.parse(process.env.PROBE_COMMAND);
  const file = process.env.PROBE_FILE;
  // Without a transport it is stdio, and no argument is added to the command.
  const server = { command, args };
  const options = {
    documentSelector: [{ scheme: 'file', language: process.env.PROBE_LANGUAGE }],
    outputChannelName: 'probe',
  };
  client = new LanguageClient('probe', 'probe', server, options);
  await client.start();
  const document = await vscode.workspace.openTextDocument(file);
  const editor = await vscode.window.showTextDocument(document);
  const shown = await until(() => {
    const list = vscode.languages.getDiagnostics(document.uri);
    return list.length > 0 && list;
  });
  const at = place(document, process.env.PROBE_WORD);
  const found = {
    vscode: vscode.version,
    server: client.initializeResult?.serverInfo?.name,
    diagnostics: shown.map(diagnostic),
    hover: (await ask('vscode.executeHoverProvider', document.uri, at)).flatMap((hover) => hover.contents.map((part) => part.value ?? part)),
    completion: labels(await ask('vscode.executeCompletionItemProvider', document.uri, place(document, process.env.PROBE_MEMBER, true))),
    definition: await ask('vscode.executeDefinitionProvider', document.uri, at),
    rename: await ask('vscode.executeDocumentRenameProvider', document.uri, at, 'renamed'),
    symbols: await ask('vscode.executeDocumentSymbolProvider', document.uri),
    actions: (await ask('vscode.executeCodeActionProvider', document.uri, shown[0].range) ?? []).map((action) => action.title),
  };
  found.after = await typed(document, editor);
  await vscode.commands.executeCommand('workbench.actions.view.problems');
  return JSON.parse(JSON.stringify(found).replaceAll(path.dirname(path.dirname(file)), 'HOME'));
}

/// The user mends the line that is objected to: the objection goes. Then the edit is undone, and it is back.
async function typed(document, editor) {
  const before = document.getText();
  const bad = vscode.languages.getDiagnostics(document.uri)[0].range.start.line;
  await editor.edit((edit) => edit.replace(document.lineAt(bad).range, process.env.PROBE_LINE));
  await until(() => vscode.languages.getDiagnostics(document.uri).length === 0);
  await editor.edit((edit) => edit.replace(new vscode.Range(0, 0, document.lineCount, 0), before));
  const again = await until(() => {
    const list = vscode.languages.getDiagnostics(document.uri);
    return list.length > 0 && list;
  });
  return again.map(diagnostic);
}

function ask(command, ...args) {
  return vscode.commands.executeCommand(command, ...args);
}

/// Where a word stands in a document, or where it ends.
function place(document, word, end = false) {
  const offset = document.getText().indexOf(word);
  if (offset < 0) throw new Error(`no ${word} in the document`);
  return document.positionAt(end ? offset + word.length : offset);
}

function diagnostic({ range, message, severity, source, code }) {
  return { line: range.start.line, message, severity, source, code: code?.value ?? code };
}

function labels(list) {
  const names = (list?.items ?? []).map((item) => item.label.label ?? item.label);
  return [...new Set(names)].sort();
}

async function until(so) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = so();
    if (value) return value;
    if (Date.now() > end) throw new Error(`in vain: ${so}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
