// Lists what a person sees in the MiniWoB task area, as [{role, text, box}] with boxes in CSS pixels.
//
// Called by render_miniwob.py as a function of the area's {width, height}. Decisions:
//  - an interactive element (button, link, field, tab, anything with a pointer cursor) is one entry and is not entered;
//  - other elements give one entry for the text they hold directly, with the tight box of its glyphs, and for pictures;
//  - a box is cut to the area and to every scrolling or clipping ancestor; what is left hidden or covered is not listed.
// The listed nodes stay in window.__longreelNodes in the same order, so that a caller can find the entry of a DOM node.
(area) => {
  const ROLE_OF_INPUT = { checkbox: 'checkbox', radio: 'radio', button: 'button', submit: 'button', range: 'slider' };
  const SHAPES = new Set(['rect', 'circle', 'polygon', 'ellipse', 'path']);
  const SKIP = new Set(['SCRIPT', 'STYLE', 'CANVAS', 'OPTION', 'BR']);
  const OURS = new Set(['reward-display', 'sync-task-cover', 'click-canvas']);
  const nodes = [], out = [];
  const clean = (s) => (s || '').replace(/\s+/g, ' ').trim();

  function roleOf(el) {
    const tag = el.tagName.toUpperCase(), explicit = el.getAttribute('role');
    if (tag === 'INPUT') return ROLE_OF_INPUT[el.type] || 'textbox';
    if (tag === 'TEXTAREA') return 'textbox';
    if (tag === 'SELECT') return el.multiple || el.size > 1 ? 'listbox' : 'combobox';
    if (['tab', 'slider', 'spinbutton', 'menuitem', 'link', 'button'].includes(explicit)) return explicit;
    if (tag === 'BUTTON') return 'button';
    if (tag === 'A' || el.classList.contains('alink')) return 'link';
    if (tag === 'IMG') return 'image';
    if (SHAPES.has(el.tagName.toLowerCase())) return 'shape';
    return null;
  }

  function nameOf(el, role) {
    if (role === 'textbox') return clean(el.type === 'password' ? '' : el.value) || clean(el.placeholder);
    if (role === 'combobox') return el.selectedIndex < 0 ? '' : clean(el.options[el.selectedIndex].text);
    if (role === 'listbox') return clean(Array.from(el.options).map((o) => o.text).join(' '));
    if (role === 'checkbox' || role === 'radio') {
      const label = el.closest('label') || (el.id && document.querySelector(`label[for="${CSS.escape(el.id)}"]`));
      const next = el.nextSibling && el.nextSibling.nodeType === Node.TEXT_NODE ? el.nextSibling.textContent : '';
      return clean(label ? label.innerText : next);
    }
    if (role === 'image') return clean(el.alt || el.title);
    if (el.tagName === 'INPUT') return clean(el.value);
    return clean(el.innerText) || clean(el.getAttribute('aria-label') || el.title) || nameInClass(el);
  }

  // Icon fonts and pictures carry their meaning only in the class: ql-bold, ui-spinner-up, email-actions .trash.
  function nameInClass(el) {
    const widget = String(el.className).match(/(?:ql|ui-spinner)-(bold|italic|underline|color-picker|up|down)/);
    return widget ? widget[1] : clean(String(el.className || el.id));
  }

  const hex = (color) => '#' + color.match(/\d+/g).slice(0, 3).map((c) => (+c).toString(16).padStart(2, '0')).join('');
  const painted = (color) => color !== 'transparent' && !/^rgba.*, 0\)$/.test(color);

  function shapeName(el) {
    const fill = el.getAttribute('fill') || el.style.fill || '';
    return clean(`${fill} ${el.tagName.toLowerCase()}`);
  }

  // A box without text that is drawn by its colour or border alone: colour swatches, game cells, blocks.
  function isSwatch(el, style) {
    const r = el.getBoundingClientRect();
    if (el.children.length || clean(el.textContent) || r.width < 6 || r.height < 6) return false;
    const parent = getComputedStyle(el.parentElement).backgroundColor;
    const framed = ['Top', 'Right', 'Bottom', 'Left'].every((side) => parseFloat(style[`border${side}Width`]) > 0);
    return framed || (painted(style.backgroundColor) && style.backgroundColor !== parent);
  }

  function cut(rect, el) {
    let [x0, y0, x1, y1] = [rect.left, rect.top, rect.right, rect.bottom];
    [x0, y0, x1, y1] = [Math.max(x0, 0), Math.max(y0, 0), Math.min(x1, area.width), Math.min(y1, area.height)];
    for (let p = el.parentElement; p && p !== document.body; p = p.parentElement) {
      const s = getComputedStyle(p);
      if (s.overflowX === 'visible' && s.overflowY === 'visible') continue;
      const r = p.getBoundingClientRect();
      [x0, y0, x1, y1] = [Math.max(x0, r.left), Math.max(y0, r.top), Math.min(x1, r.right), Math.min(y1, r.bottom)];
    }
    return x1 - x0 >= 3 && y1 - y0 >= 3 ? [x0, y0, x1, y1] : null;
  }

  function seen(el, box) {
    const s = getComputedStyle(el);
    if (s.visibility === 'hidden' || s.display === 'none' || parseFloat(s.opacity) === 0) return false;
    const top = document.elementFromPoint((box[0] + box[2]) / 2, (box[1] + box[3]) / 2);
    return !top || top === el || el.contains(top) || top.contains(el) || top.tagName === 'LABEL';
  }

  function add(el, role, text, rect) {
    const box = cut(rect, el);
    if (!box || !seen(el, box)) return;
    nodes.push(el);
    out.push({ role, text, box });
  }

  const pointer = (el) => getComputedStyle(el).cursor === 'pointer';
  const busy = (el) => el.querySelector('input,select,textarea,button,a,.alink,[role=tab]') !== null;
  const picture = (style) => style.content.startsWith('url(') || style.backgroundImage !== 'none';
  const isIcon = (el) => !el.children.length && !clean(el.textContent) && picture(getComputedStyle(el));
  const icons = (el) => Array.from(el.querySelectorAll('*')).some(isIcon);

  function directText(el) {
    const range = document.createRange();
    let text = '', rect = null;
    for (const n of el.childNodes) {
      if (n.nodeType !== Node.TEXT_NODE || !clean(n.textContent)) continue;
      range.selectNodeContents(n);
      const r = range.getBoundingClientRect();
      if (!r.width || !r.height) continue;
      text += ' ' + n.textContent;
      rect = rect === null ? r : { left: Math.min(rect.left, r.left), top: Math.min(rect.top, r.top),
        right: Math.max(rect.right, r.right), bottom: Math.max(rect.bottom, r.bottom) };
    }
    return rect && { text: clean(text), rect };
  }

  function walk(el) {
    if (SKIP.has(el.tagName) || OURS.has(el.id)) return;
    const style = getComputedStyle(el);
    if (style.display === 'none') return;
    const role = roleOf(el);
    if (role === 'shape') return add(el, role, shapeName(el), el.getBoundingClientRect());
    if (role !== null) return add(el, role, nameOf(el, role), el.getBoundingClientRect());
    if (el.id === 'query') return add(el, 'text', clean(el.innerText), el.getBoundingClientRect());
    const outermost = pointer(el) && !(el.parentElement && pointer(el.parentElement));
    if (outermost && !busy(el) && !icons(el) && clean(el.innerText)) {
      return add(el, 'button', clean(el.innerText), el.getBoundingClientRect());
    }
    if (el.classList.contains('ui-resizable-handle')) return;
    if (el.classList.contains('ui-slider-handle')) return add(el, 'slider', '', el.getBoundingClientRect());
    if (isIcon(el)) {
      const name = clean(el.getAttribute('aria-label') || el.title) || nameInClass(el);
      return add(el, pointer(el) ? 'button' : 'image', name, el.getBoundingClientRect());
    }
    if (isSwatch(el, style)) {
      const color = painted(style.backgroundColor) ? hex(style.backgroundColor) : '';
      return add(el, 'shape', color, el.getBoundingClientRect());
    }
    const own = directText(el);
    if (own) add(el, 'text', own.text, own.rect);
    for (const child of el.children) walk(child);
  }

  walk(document.body);
  window.__longreelNodes = nodes;
  return out;
}
