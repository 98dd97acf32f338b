import { html } from "../vendor/htm/standalone.module.js";
export const LettersPage = () => html`<h1>Letters</h1>`;
