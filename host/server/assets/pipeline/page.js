import { html } from "../vendor/htm/standalone.module.js";
export const PipelinePage = () => html`<h1>Pipeline</h1>`;
