package statsapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// links is a Link header (RFC 8288) for a part of a list: to the first part, the next and, where there are pages, those
// beside this one. Without next this is the end.
func links(u url.URL, next *string, page uint64, bar *PageBar) string {
	var out []string
	add := func(rel, target string) { out = append(out, fmt.Sprintf(`<%s>; rel="%s"`, target, rel)) }
	if bar == nil {
		add("first", relink(u, "cursor", "", "page", ""))
		if next != nil {
			add("next", relink(u, "page", "", "cursor", *next))
		}
		return strings.Join(out, ", ")
	}
	pages := uint64(*bar.PageCount)
	add("first", relink(u, "page", "1"))
	if page > 1 && pages > 0 {
		add("prev", relink(u, "page", formatUint(min(page-1, pages))))
	}
	if page < pages {
		add("next", relink(u, "page", formatUint(page+1)))
	}
	if pages > 0 {
		add("last", relink(u, "page", formatUint(pages)))
	}
	return strings.Join(out, ", ")
}

// relink is the request's URL with other parameters, given by name and value; an empty value takes one away. All others
// stay as and where they are.
func relink(u url.URL, changes ...string) string {
	parts := []string{}
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		if part != "" {
			parts = append(parts, part)
		}
	}
	for change := range slices.Chunk(changes, 2) {
		parts = reparameter(parts, change[0], change[1])
	}
	link := url.URL{Path: u.Path, RawQuery: strings.Join(parts, "&")}
	return link.String()
}

func reparameter(parts []string, name, value string) []string {
	var out []string
	set := name + "=" + url.QueryEscape(value)
	found := value == ""
	for _, part := range parts {
		switch is, _, _ := strings.Cut(part, "="); {
		case is != name:
			out = append(out, part)
		case !found:
			out, found = append(out, set), true
		}
	}
	if !found {
		out = append(out, set)
	}
	return out
}

// pageBar links to this page and its neighbours, three in all where there are as many.
func pageBar(u url.URL, page, items, limit uint64) *PageBar {
	pages := (items + limit - 1) / limit
	page = min(page, max(pages, 1)) // from past the end, the way back
	last := min(max(page, 2)+1, pages)
	first := max(last, 3) - 2
	bar := &PageBar{PageCount: new(Number(pages)), ItemCount: new(Number(items)), Pages: []PageLink{}}
	for n := first; n <= last; n++ {
		bar.Pages = append(bar.Pages, PageLink{Number: Number(n), URL: relink(u, "page", formatUint(n))})
	}
	return bar
}
