import { mount } from 'svelte';
import './ops.css';
import App from './ui/App.svelte';

const target = document.getElementById('ops');
if (target) mount(App, { target });
