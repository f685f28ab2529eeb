// Puts the interactive figures into the page: each <div class="dt-figure" data-figure="NAME"> is
// given to NAME.js. What stands in the div already is seen until then, and where no script runs.

const FIGURES = ["chain", "modes", "vee"];

async function mount(place) {
  const name = place.dataset.figure;
  if (!FIGURES.includes(name) || place.dataset.mounted) return;
  place.dataset.mounted = "loading";
  try {
    const { figure } = await import(`./${name}.js`);
    const made = await figure(place.dataset);
    place.replaceChildren(made);
    place.dataset.mounted = "yes";
  } catch (error) {
    delete place.dataset.mounted;
    console.error(`The figure "${name}" could not be drawn:`, error);
  }
}

document.querySelectorAll(".dt-figure[data-figure]").forEach(mount);
