package store

import (
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"github.com/firstseen/firstseen/internal/testenv"
)

func TestStartTellsSettingsThatBreakPromises(t *testing.T) {
	t.Parallel()
	ahead := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	const flush, count = "@@GLOBAL.innodb_flush_log_at_trx_commit", "@@GLOBAL.max_prepared_stmt_count"
	for name, c := range map[string]struct {
		asked []string // of the server, and what is asked instead
		now   func() time.Time
		table string // change made to the tables
		want  string // in the one warning; empty means that there is none
	}{
		"all is well":           {},
		"clock off by a second": {now: ahead(time.Second)},
		// Half a minute more, so that a slow answer to the question does not change the minutes.
		"clock ahead":           {now: ahead(time.Hour + 30*time.Second), want: "clock differs from the database's by 1h0m"},
		"clock behind":          {now: ahead(-90 * time.Second), want: "clock differs from the database's by -1m"},
		"flushed once a second": {asked: []string{flush, "2"}, want: "innodb_flush_log_at_trx_commit is 2"},
		"binary log not synced": {asked: []string{"@@GLOBAL.log_bin", "1", "@@GLOBAL.sync_binlog", "0"}, want: "sync_binlog is 0"},
		"binary log synced":     {asked: []string{"@@GLOBAL.log_bin", "1", "@@GLOBAL.sync_binlog", "1"}},
		"latin connection":      {asked: []string{"@@character_set_connection", "'latin1'"}, want: "character set is latin1"},
		"few statements":        {asked: []string{count, "16"}, want: "max_prepared_stmt_count is 16"},
		"unknown variable":      {asked: []string{flush, "@@GLOBAL.nonsense"}, want: "cannot check the database's settings"},
		"converted table": {
			table: "ALTER TABLE gaps CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
			want:  "gaps.observer utf8mb4_general_ci, gaps.reason utf8mb4_general_ci",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := testenv.MySQL(t)
			if c.table != "" {
				migrated(t, dsn)
				if err := opened(t, Options{DSN: dsn}).db.Exec(c.table).Error; err != nil {
					t.Fatal(err)
				}
			}
			log, hook := test.NewNullLogger()
			openedThrough(t, Options{DSN: dsn, Log: log, Now: c.now}, &fault{alter: strings.NewReplacer(c.asked...)})
			var got []string
			for _, e := range hook.AllEntries() {
				got = append(got, e.Message)
			}
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("log says %q, want %q", got, c.want)
			}
		})
	}
}
