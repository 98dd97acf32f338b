import { html } from "./vendor/htm/standalone.module.js";
export const HealthPage = () => html`<h1>Health</h1>`;
